"""The contract for voxels: where they live, and how a block of them is read and written.

Axes are named by one letter each, in array order, from ``t c z y x`` (``n`` for the samples of a stack archive). Voxel sizes
and units follow the same order and are ``1.0`` and ``""`` for axes without a physical unit. ``voxel_size`` is that of this
volume's own mip. Boxes are in voxels of this mip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box


@dataclass(frozen=True)
class Meta:
    """What a volume says of itself besides its voxels; kept through every verb that copies or derives one."""

    axes: tuple[str, ...]
    voxel_size: tuple[float, ...]
    units: tuple[str, ...]
    channel_names: tuple[str, ...] = ()
    name: str = ""
    translation: tuple[float, ...] = ()  # where voxel 0 lies, in ``units``; empty means at zero
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def plain(cls, axes: str | tuple[str, ...], **changes: Any) -> Meta:
        """Metadata with unit voxels and no units."""
        axes = tuple(axes)
        return replace(cls(axes, (1.0,) * len(axes), ("",) * len(axes)), **changes)


@runtime_checkable
class Volume(Protocol):
    """Voxels with a box, axes and a voxel size. Instances are picklable and safe to read from several threads."""

    @property
    def path(self) -> str: ...

    @property
    def box(self) -> Box: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of the smallest piece that can be written alone; blocks that align to it never share one."""
        ...

    @property
    def meta(self) -> Meta: ...

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``, which must lie inside ``self.box``."""
        ...

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Store ``array`` (shape ``box.shape``); durable when it returns."""
        ...
