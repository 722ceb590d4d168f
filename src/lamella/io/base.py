"""What every format shares: checks of boxes and arrays, pickling, and the words for a full disk.

A format gives its volumes three methods: ``_open`` (the handle, opened when first needed), ``_read`` and ``_write``. Pickling
drops the handle, and a forked child opens its own (where it may; see ``place.context``).
"""

from __future__ import annotations

import errno
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io.place import reason


@dataclass(frozen=True)
class Header:
    """What is known of an array before a voxel is read."""

    path: str
    box: Box
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    meta: Meta
    writable: bool = False


class StoredVolume(ABC):
    """A ``Volume`` in a file or bucket."""

    def __init__(self, header: Header) -> None:
        assert len(header.meta.axes) == header.box.ndim == len(header.chunk)
        self.header = header
        self._reset()

    def _reset(self) -> None:
        self._lock, self._handle, self._pid = threading.RLock(), None, -1

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_handle", "_pid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.path!r}, box={self.box}, dtype={self.dtype}, axes={''.join(self.meta.axes)})"
        )

    @property
    def path(self) -> str:
        return self.header.path

    @property
    def box(self) -> Box:
        return self.header.box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.header.dtype

    @property
    def chunk(self) -> tuple[int, ...]:
        return self.header.chunk

    @property
    def meta(self) -> Meta:
        return self.header.meta

    @property
    def handle(self) -> Any:
        """What ``_open`` gave in this process."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._handle = self._open()
                    self._pid = os.getpid()
        return self._handle

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box`` as a new array; what was never written reads as 0."""
        check_box(self, box)
        if box.is_empty:
            return np.zeros(box.shape, self.dtype)
        return self._read(box).astype(self.dtype, copy=False)

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Store ``array`` (shape ``box.shape``, this volume's dtype); durable when it returns."""
        if not self.header.writable:
            raise UserError(f"{self.path} was opened for reading; open it with writable=True to write")
        check_box(self, box)
        if array.shape != box.shape:
            raise UserError(
                f"array of shape {array.shape} does not fit box {box} of shape {box.shape}; give that shape"
            )
        if array.dtype != self.dtype:
            raise UserError(
                f"array of {array.dtype} cannot be stored in {self.path}, which holds {self.dtype}; convert it"
            )
        if not box.is_empty:
            with full_disk_explained(self.path):
                self._write(box, array)

    def _open(self) -> Any:
        """What stays open between reads; nothing by default."""
        return None

    @abstractmethod
    def _read(self, box: Box) -> NDArray[Any]:
        """The voxels of a box that lies inside."""

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        """Store an array that fits; formats that are only read never come here."""
        raise AssertionError(f"{self.path} is of a format that is only read, and was opened for writing")


def check_box(volume: Any, box: Box) -> None:
    """Refuse a box of another rank than the volume's or one that reaches outside."""
    if box.ndim != volume.box.ndim:
        axes = " ".join(volume.meta.axes)
        raise UserError(
            f"box {box} has {box.ndim} axes; {volume.path} has {volume.box.ndim} ({axes}); give one range for each"
        )
    if not box.is_empty and not box.within(volume.box):
        raise UserError(f"box {box} reaches outside {volume.path}, whose box is {volume.box}; choose one inside")


@contextmanager
def full_disk_explained(path: str) -> Iterator[None]:
    """Turn "no space left" into an error that says what is kept and how to go on."""
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise UserError(
            f"no space left while writing {path}: {reason(error)}; "
            "what was written before is kept: free some space and run the same command again to go on"
        ) from error


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    return "No space left on device" in text or "Disk quota exceeded" in text or "errno = 28" in text
