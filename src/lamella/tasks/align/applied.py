"""Fields that an alignment has left, laid on the voxels of any volume of the same place: the aligned mip, a finer one, labels, masks.

The grids share their corners: field pixel (0, 0) begins where the aligned box began, and covers ``factors`` (y, x) voxels of the volume.

```
fields          |---0---|---1---|---2---|      2 times coarser than the mip that was aligned (2^net.skip)
aligned mip     |-a-|-b-|-c-|-d-|-e-|
a finer mip     |a|a|b|b|c|c|d|d|e|e|          factors 4; vectors are 4 times as many voxels long
```

Factors come from the sizes of the voxels, one for each axis, and may be any whole numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.coarse import Coarse, Placed
from lamella.tasks.align.frame import Frame, digest_of
from lamella.tasks.align.resample import MARGIN, interpolate, read_plane
from lamella.tasks.align.stages import Field, Stored

_KEY = "fields"  # what fields tell of the voxels that they were made on, in their provenance
_PRINT = 256  # pixels; side of the square that tells a source from any other
_CLOSE = 1e-3  # by how much the sizes of voxels may miss a whole number, relatively


def made_on(source: Volume, *, torn: bool) -> Mapping[str, Any]:
    """What an alignment keeps of its ``source``, so that its fields can be laid on other mips of it."""
    voxels = {"box": str(source.box), "voxel_size": list(source.meta.voxel_size), "print": fingerprint(source)}
    return {_KEY: {**voxels, "torn": torn}}


def may_jump(told: Mapping[str, Any]) -> bool:
    """Whether fields that tell this of their making may jump from one pixel to the next."""
    return bool(told.get(_KEY, {}).get("torn", told.get("masks")))


def fingerprint(volume: Volume) -> str:
    """What tells a stack of sections from any other of its shape: the middle of its middle section."""
    z, y, x = ((a + b) // 2 for a, b in zip(volume.box.start, volume.box.stop, strict=True))
    around = Box((y, x), (y + 1, x + 1)).grow(_PRINT // 2)
    return hashlib.sha256(np.ascontiguousarray(read_plane(volume, z, around)).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Kept:
    """Fields as ``lamella align`` wrote them. ``box`` was aligned, of a source that had ``source_box``, in voxels of ``voxel_size``."""

    volume: Volume
    box: Box
    source_box: Box
    voxel_size: tuple[float, ...]
    torn: bool

    @classmethod
    def open(cls, path: str) -> Kept:
        """The fields at ``path``; a UserError for what is none."""
        volume = open_volume(path)
        axes, names = "".join(volume.meta.axes), volume.meta.channel_names
        if axes != "czyx" or names != ("dy", "dx"):
            has = f"channels {' and '.join(names)}" if names else "no names of channels"
            raise UserError(
                f"{path} has axes {axes} and {has}; fields have axes czyx and channels dy and dx, so give the fields that lamella align "
                "wrote beside its output, NAME.fields.ome.zarr"
            )
        told, made = volume.meta.provenance.get(_KEY), volume.meta.provenance.get("box")
        if not isinstance(told, Mapping) or made is None:
            raise UserError(
                f"fields {path} do not tell on which voxels they were made; give fields that lamella align wrote, or align again"
            )
        return cls(
            volume, Box.read(made), Box.read(told["box"]), tuple(told["voxel_size"]), may_jump(volume.meta.provenance)
        )

    @property
    def made(self) -> Mapping[str, Any]:
        """How they were made."""
        return self.volume.meta.provenance

    @property
    def mip(self) -> int:
        """The mip of the source that was aligned."""
        return int(self.made.get("mip") or 0)

    def is_of(self, volume: Volume) -> bool:
        """Whether ``volume``, of the aligned mip, holds the voxels that were aligned."""
        return volume.meta.axes == ("z", "y", "x") and fingerprint(volume) == self.made[_KEY]["print"]

    def on(self, volume: Volume, coarse: str | None = None) -> Applied:
        """The fields on the voxels of ``volume``, and that as they see it: placed by the alignment ``coarse``, if they were made so.

        Raises UserError for a volume of other sections, of another shape or place, or of voxels that are coarser than those that were
        aligned, and for a coarse alignment that is missing, or is not the one they were made with.
        """
        scale = self._scale(volume)
        self._check_box(volume, scale)
        source = self._placed(volume, coarse)
        box = self.box.refine(scale)
        ratio = np.rint(np.divide(self.volume.meta.voxel_size[2:], volume.meta.voxel_size[1:])).astype(int)
        corner, factors = (box.start[1], box.start[2]), (int(ratio[0]), int(ratio[1]))
        frame = Frame(source, corner, factors) if isinstance(source, Placed) else None
        return Applied(source, Stored(self.volume, frame), box.intersect(source.box), corner, factors, self.torn)

    def _scale(self, volume: Volume) -> tuple[int, int, int]:
        """How many voxels of ``volume`` one of the aligned mip covers, z y x."""
        meta, wanted = volume.meta, f"fields {self.volume.path} were made on voxels of {_size(self.voxel_size)}"
        if meta.axes != ("z", "y", "x"):
            raise UserError(
                f"{volume.path} has axes {''.join(meta.axes)}; fields move sections, axes zyx, so choose one of its channels with --channel, "
                "or convert what is to be moved"
            )
        units = self.volume.meta.units[1:]
        if any(a and b and a != b for a, b in zip(meta.units, units, strict=True)):
            raise UserError(
                f"{volume.path} has voxels in {meta.units[-1]}, and {wanted} {units[-1]}; give a volume in {units[-1]} (lamella convert "
                "--voxel-size and --unit)"
            )
        ratio = np.divide(self.voxel_size, meta.voxel_size)
        whole = np.rint(ratio)
        if (np.abs(whole - ratio) <= _CLOSE * ratio).all() and whole[0] == 1:
            return (1, int(whole[1]), int(whole[2]))
        has = f"{volume.path} has voxels of {_size(meta.voxel_size)}, and {wanted} (z y x)"
        if whole[0] != 1:
            raise UserError(f"{has}; sections must be the same, so give a mip or a volume with the same z")
        if ratio.min() < 1:
            raise UserError(f"{has}; they can be applied to these and to finer ones, so choose a finer mip with --mip")
        raise UserError(
            f"{has}, which are no whole number of its own; give the source, or correct the sizes (lamella convert --voxel-size)"
        )

    def _check_box(self, volume: Volume, scale: Sequence[int]) -> None:
        have = np.array([volume.box.start, volume.box.stop]) / scale
        own = np.array([self.source_box.start, self.source_box.stop])
        if (own < np.floor(have)).any() or (own > np.ceil(have)).any():  # mips of odd sizes are cut or filled up
            raise UserError(
                f"{volume.path} has box {volume.box}, and fields {self.volume.path} were made on {self.source_box.refine(scale)} of such voxels; give the volume "
                "that was aligned, or one on the same voxels"
            )

    def _placed(self, volume: Volume, coarse: str | None) -> Volume:
        told = self.made.get("coarse")
        if told is None and coarse is None:
            return volume
        if told is None:
            raise UserError(
                f"fields {self.volume.path} were made on sections as they are, not as {coarse} places them; leave out --coarse"
            )
        if coarse is None:
            raise UserError(
                f"fields {self.volume.path} were made on sections as {told['path']} places them, which is needed too; add --coarse "
                f"{told['path']}"
            )
        read = Coarse.read(coarse)
        if digest_of(read.at(self.voxel_size)) != told["transforms"]:
            raise UserError(
                f"{coarse} places sections otherwise than {told['path']} did when the fields {self.volume.path} were made; give that one"
            )
        return read.view(volume, coarse)


@dataclass(frozen=True)
class Applied:
    """``fields`` on the voxels of ``source``, of which they show ``box``; ``corner`` (y, x) is the voxel at which their first pixel begins."""

    source: Volume
    fields: Stored
    box: Box
    corner: tuple[int, int]
    factors: tuple[int, int]
    torn: bool

    def read(self, z: int, plane: Box) -> tuple[Box, Field]:
        """The field around ``plane`` (y, x) of section ``z`` on its own grid, from its corner, and the box that it covers."""
        whole = Box.of(self.fields.fields.box.shape[2:])
        grown = self._from_corner(plane).scale(self.factors).grow(MARGIN).intersect(whole)
        return grown, self.fields.read(z, grown)

    def dense(self, plane: Box, read: tuple[Box, Field]) -> NDArray[np.float32]:
        """The field (2, y, x) of each voxel of ``plane``, from what was ``read`` for it."""
        grown, coarse = read
        return interpolate(coarse, grown, self._from_corner(plane), self.factors, torn=self.torn)

    def _from_corner(self, plane: Box) -> Box:
        return plane.shift((-self.corner[0], -self.corner[1]))


def _size(lengths: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in lengths)
