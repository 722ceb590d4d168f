"""A trained segmentation, ready for any image: what training saw, the net, and how instances are made of its maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.data.image_source import Part
from lamella.infer import Blended, InferSettings, NetOp, PlaneOp
from lamella.infer.inputs import check_part, scaling_of
from lamella.infer.maps import SpaceOp
from lamella.infer.op import weights_digest
from lamella.infer.stitch import Maker
from lamella.infer.trimmed import TrimmedOp
from lamella.ops.instances import Method
from lamella.ops.intensity import IntensityConfig, Scaling
from lamella.ops.trim import Resize, TrimConfig
from lamella.tasks.segment.net import SegmentNet

IMAGE = "image"  # the map that some methods want besides those of the net: the image itself, from 0 to 1


@dataclass(frozen=True)
class Segmenter:
    """Everything that a run says about predicting. ``mirror`` is the width of mirrored surroundings that training showed."""

    net: SegmentNet
    method: Method
    normaliser: IntensityConfig
    slices: int = 1
    channels: tuple[int, ...] | None = None
    mirror: int = 0
    trim: TrimConfig | None = None
    voxel_size: tuple[float, ...] | None = None
    settings: InferSettings = field(default_factory=InferSettings)
    device: str = "cpu"

    @property
    def names(self) -> tuple[str, ...]:
        """The maps of the net, in order."""
        return tuple(self.net.heads)

    @property
    def map_names(self) -> tuple[str, ...]:
        """All that instances are made of: the maps of the net, and the image if the method wants it."""
        return (*self.names, IMAGE) if IMAGE in self.method.needs else self.names

    @property
    def takes_whole(self) -> bool:
        """Whether an image must go through the net at once, as it is resized."""
        return isinstance(self.trim, Resize)

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two segmenters that give the same instances."""
        return {
            "weights": weights_digest(self.net),
            "method": repr(self.method),
            "normaliser": self.normaliser.to_dict(),
            "slices": self.slices,
            "channels": self.channels,
            "mirror": self.mirror,
            "trim": self.trim.to_dict() if self.trim else None,
            "voxel_size": self.voxel_size,
            "settings": self.settings.to_dict(),
            "dtype": str(self.settings.dtype(self.device)),
        }

    def check(self, part: Part) -> None:
        """Refuse an image that the net cannot take."""
        check_part(part, self.net.in_channels, self.net.ndim, self.slices)

    def op(self, part: Part) -> SpaceOp:
        """The net for this image, scaled by its own intensities: (c, z, y, x) to the maps (k, z, y, x)."""
        scaling = scaling_of(part, self.normaliser)
        repeated = scaling.repeated(self.slices) if self.slices > 1 else scaling
        net = NetOp(self.net, repeated, mirror=self.mirror, settings=self.settings, device=self.device)
        tiled = Blended(net) if self.settings.overlap is not None or not net.seamless else net
        op: Any = TrimmedOp(tiled, self.trim) if isinstance(self.trim, Resize) else tiled
        op = PlaneOp(op, self.slices) if self.net.ndim == 2 else op
        return WithImage(op, scaling) if IMAGE in self.method.needs else op

    def maker(self, part: Part, *, flat: bool) -> Maker:
        """How instances of this image are made: of each section by itself if ``flat`` or if there is but one."""
        flat = self.net.ndim == 2 and (flat or part.box.shape[0] == 1)
        return Maker(self.method, self.map_names, self._spacing(part, 2 if flat else 3), flat)

    def _spacing(self, part: Part, ndim: int) -> tuple[float, ...]:
        """The voxel size that the net was trained with, or else that of the image."""
        if self.voxel_size is not None and len(self.voxel_size) == ndim:
            return self.voxel_size
        sizes = dict(zip(part.volume.meta.axes, part.volume.meta.voxel_size, strict=True))
        return tuple(sizes.get(axis, 1.0) for axis in "zyx"[-ndim:])


class WithImage:
    """An op that adds the image itself, its first channel scaled and cut to 0 to 1, as the last map."""

    def __init__(self, op: SpaceOp, scaling: Scaling) -> None:
        self.op, self.scaling = op, scaling
        self.context, self.stride = op.context, op.stride

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), "image": True}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        return np.concatenate([self.op(patch), np.clip(self.scaling(patch)[:1], 0, 1)])
