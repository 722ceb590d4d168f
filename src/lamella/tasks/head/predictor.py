"""A trained head, ready for any image: what training saw, the net, and what its outputs are.

A head that was trained on stored embeddings takes embeddings of the same checkpoint, or the images themselves: ``through`` then puts
the base that made the embeddings in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.volume import Volume
from lamella.data.embeddings import Origin, is_embedding, need_origin
from lamella.data.image_source import Part
from lamella.infer import Blended, InferSettings, NetOp, PlaneOp
from lamella.infer.inputs import check_part, scaling_of
from lamella.infer.maps import SpaceOp, blocks_of
from lamella.infer.op import weights_digest
from lamella.ops.intensity import IntensityConfig, Scaling
from lamella.tasks.head.net import HeadNet
from lamella.tasks.head.target import Affinities, TargetConfig

_SIDE = {2: 1024, 3: 96}  # of the blocks in which maps are computed, in voxels
_CONTEXTS = 4  # at least so many times the context, so that blocks are mostly their own


@dataclass(frozen=True)
class HeadPredictor:
    """Everything that a run says about predicting. ``mirror`` is the width of mirrored surroundings that training showed.

    ``channels`` are those of images that training took; None for all, and where ``through`` has its own to say.
    ``origin`` is the checkpoint whose stored embeddings the net reads; None if it reads images. ``channel_names`` tell what the maps are.
    """

    net: HeadNet
    target: TargetConfig
    normaliser: IntensityConfig
    origin: Origin | None = None
    through: HeadPredictor | None = None
    slices: int = 1
    channels: tuple[int, ...] | None = None
    mirror: int = 0
    settings: InferSettings = field(default_factory=InferSettings)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if isinstance(self.target, Affinities) and (self.settings.flips or self.settings.rotations):
            raise UserError(
                "affinities have directions, so mirrored copies cannot be averaged; leave flips and rotations out"
            )

    @property
    def name(self) -> str:
        """``affinities`` or ``classes``."""
        return self.target.kind

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """Of each map of affinities; empty for classes."""
        return self.target.steps(self.net.ndim) if isinstance(self.target, Affinities) else ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What each map is: an offset, or a class."""
        return self.target.names(self.net.ndim)

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two predictors that give the same maps."""
        return {
            "weights": weights_digest(self.net),
            "target": self.target.to_dict(),
            "normaliser": self.normaliser.to_dict(),
            "origin": None if self.origin is None else self.origin.sha256,
            "slices": self.slices,
            "channels": self.channels,
            "mirror": self.mirror,
            "settings": self.settings.to_dict(),
            "dtype": str(self.settings.dtype(self.device)),
        }

    def check(self, part: Part) -> None:
        """Refuse an image that the net cannot take, and embeddings of another checkpoint."""
        chosen = self._for(part.volume)
        if chosen.origin is not None:
            need_origin(part.volume, chosen.origin)
        elif is_embedding(part.volume):
            raise UserError(
                f"{part.volume.path} holds embeddings, and this head reads images; give the images, or train a head on embeddings"
            )
        check_part(part, chosen.net.in_channels, chosen.net.ndim, chosen.slices)

    def op(self, part: Part) -> SpaceOp:
        """The net for this image, scaled by its own intensities: (c, z, y, x) to the maps (k, z, y, x)."""
        chosen = self._for(part.volume)
        return chosen._op(unscaled if chosen.origin is not None else scaling_of(part, chosen.normaliser))

    def maps(self, source: Part | Volume | NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Maps of an image or volume: ``affinities`` (n, *space), or ``classes`` (k, *space) that add up to 1.

        ``source`` is a volume with axes z y x or y x, with c before them and, if of length one, t; or an array (*space) or
        (c, *space). Space of the maps is that of the source. Volumes go block by block, and equal the whole.
        """
        if isinstance(source, np.ndarray):
            return {self.name: self._of_array(source)}
        part = source if isinstance(source, Part) else whole_part(source, self._for(source).channels)
        self.check(part)
        found = maps_of(part, self.op(part), self.net.ndim, len(self.channel_names))
        return {self.name: found if "z" in part.volume.meta.axes else found[:, 0]}

    def _for(self, volume: Volume) -> HeadPredictor:
        """Who takes this volume: a head on embeddings gives images to its ``through``."""
        if self.origin is None or is_embedding(volume):
            return self
        return self._from_images(volume.path)

    def _from_images(self, what: str) -> HeadPredictor:
        if self.through is None:
            raise UserError(
                f"this head reads embeddings of {self.origin}, whose run is not here; give embeddings that `lamella embed` wrote, "
                f"not {what}, or put the run beside this one"
            )
        return self.through

    def _op(self, scaling: Any) -> SpaceOp:
        repeated = scaling.repeated(self.slices) if self.slices > 1 and isinstance(scaling, Scaling) else scaling
        net = NetOp(
            self.net, repeated, self.target.finish, mirror=self.mirror, settings=self.settings, device=self.device
        )
        tiled = Blended(net) if self.settings.overlap is not None or not net.seamless else net
        return PlaneOp(tiled, self.slices) if self.net.ndim == 2 else tiled

    def _of_array(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Maps of an image without a file: of what its channels say, embeddings or the image itself."""
        ndim = self.net.ndim
        if array.ndim not in (ndim, ndim + 1):
            axes = "z y x" if ndim == 3 else "y x"
            raise UserError(f"an array of shape {array.shape} must have the axes {axes}, or c {axes}")
        image = array if array.ndim == ndim + 1 else array[None]
        chosen = self if self.origin is None or len(image) == self.net.in_channels else self._from_images("an array")
        if len(image) * chosen.slices != chosen.net.in_channels:
            raise UserError(
                f"an array of shape {array.shape} has {len(image)} channels, the net was trained on "
                f"{chosen.net.in_channels // chosen.slices}; give as many"
            )
        op = chosen._op(unscaled if chosen.origin is not None else chosen.normaliser.measure(image))
        return op(image[:, None])[:, 0] if ndim == 2 else op(image)


def unscaled(patch: NDArray[Any]) -> NDArray[np.float32]:
    """Embeddings as they were stored."""
    return patch.astype(np.float32, copy=False)


def whole_part(volume: Volume, channels: tuple[int, ...] | None = None) -> Part:
    """All of a volume of one time point; of its channels those of training, if it has more."""
    lengths = dict(zip(volume.meta.axes, volume.box.shape, strict=True))
    if lengths.get("t", 1) > 1:
        raise UserError(f"{volume.path} has {lengths['t']} time points; give one of them, as a Part with its time")
    has_more = channels is not None and lengths.get("c", 1) > len(channels)
    box = Box.of(tuple(lengths.get(a, 1) for a in "zyx"))
    return Part(volume, box, 0 if "t" in lengths else None, channels if has_more else None)


def maps_of(part: Part, op: SpaceOp, ndim: int, num_maps: int) -> NDArray[np.float32]:
    """Maps (k, z, y, x) of a part, holding one block's worth of the net's own maps in memory."""
    side = [max(_SIDE[ndim], _CONTEXTS * c) for c in op.context]
    blocks = blocks_of(part, op, [1, *side[1:]] if ndim == 2 else side)
    found = np.empty((num_maps, *part.box.shape), np.float32)
    with progress("predicting maps", prod(part.box.shape), "voxels") as meter:
        for block in blocks:
            found[(slice(None), *block.write.slices())] = op(part.read(block.read))[(slice(None), *block.inside)]
            meter.advance(block.write.size)
    return found
