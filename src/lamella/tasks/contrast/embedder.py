"""A trained embedding, ready for any image: what training saw, and the net."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.embeddings import Origin
from lamella.data.image_source import Part
from lamella.infer import Blended, InferSettings, NetOp, PlaneOp
from lamella.infer.inputs import check_part, scaling_of
from lamella.infer.maps import SpaceOp
from lamella.infer.op import weights_digest
from lamella.ops.intensity import IntensityConfig, Scaling
from lamella.tasks.contrast.net import ContrastNet


@dataclass(frozen=True)
class Embedder:
    """Everything that a run says about embedding. ``mirror`` is the width of mirrored surroundings that training showed."""

    net: ContrastNet
    origin: Origin
    normaliser: IntensityConfig
    slices: int = 1
    channels: tuple[int, ...] | None = None
    mirror: int = 0
    settings: InferSettings = field(default_factory=InferSettings)
    device: str = "cpu"

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two embedders that give the same embeddings."""
        return {
            "weights": weights_digest(self.net.base),
            "normaliser": self.normaliser.to_dict(),
            "slices": self.slices,
            "channels": self.channels,
            "mirror": self.mirror,
            "settings": self.settings.to_dict(),
            "dtype": str(self.settings.dtype(self.device)),
        }

    def check(self, part: Part) -> None:
        """Refuse an image that the net cannot take."""
        check_part(part, self.net.base.in_channels, self.net.ndim, self.slices)

    def scaling(self, part: Part) -> Scaling:
        """How the intensities of an image are scaled before they go through ``op``."""
        return scaling_of(part, self.normaliser)

    def op(self) -> SpaceOp:
        """The net for scaled images: (c, z, y, x) to the embeddings (h, z, y, x)."""
        net = NetOp(self.net.base, as_floats, unchanged, mirror=self.mirror, settings=self.settings, device=self.device)
        tiled = Blended(net) if self.settings.overlap is not None or not net.seamless else net
        return PlaneOp(tiled, self.slices) if self.net.ndim == 2 else tiled


def as_floats(patch: NDArray[Any]) -> NDArray[np.float32]:
    """Images that are scaled already."""
    return patch.astype(np.float32, copy=False)


def unchanged(maps: Tensor) -> Tensor:
    """Embeddings are what the net gives, of any sign and size."""
    return maps
