"""An array that the processes of a data loader share: what one of them computed, all of them have.

Loaders start their workers afresh and send them the data set by pickle, so the array is kept where a path leads to it: in a file
that lives in memory where the system has such files (Linux), in a temporary file elsewhere. Memory is taken only for what is
written. It ends with the process that made it.
"""

from __future__ import annotations

import os
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SharedBytes:
    """``num_bytes`` bytes, zero at first; picklable. ``lost`` tells that a copy found the maker gone and began anew with zeros."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self.lost = num_bytes, False
        self._make()

    def __getstate__(self) -> dict[str, Any]:
        return {"num_bytes": self.num_bytes, "path": self._path, "name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.num_bytes = state["num_bytes"]
        self.lost = not _is_there(state["path"], state["name"])
        if self.lost:  # the maker is gone or on another machine
            self._make()
        else:
            self._path, self._name = state["path"], state["name"]
            self._map()

    def _make(self) -> None:
        self._name = f"lamella-{uuid.uuid4().hex}"
        if hasattr(os, "memfd_create"):
            handle = os.memfd_create(self._name)
            self._path = f"/proc/{os.getpid()}/fd/{handle}"
            weakref.finalize(self, os.close, handle)
        else:
            handle, self._path = tempfile.mkstemp(prefix=self._name)
            os.close(handle)
            weakref.finalize(self, _remove, Path(self._path), os.getpid())
        os.truncate(self._path, self.num_bytes)
        self._map()

    def _map(self) -> None:
        self.bytes = np.memmap(self._path, np.uint8, "r+", shape=(self.num_bytes,))


class SharedSections:
    """``count`` float32 sections (y, x), each empty until it is put in; picklable.

    Two workers may put the same section at the same time: both write the same values, so no lock is needed. Where the maker is
    gone or on another machine, a copy works as if it had put nothing in.
    """

    def __init__(self, count: int, shape: tuple[int, int]) -> None:
        self.count, self.shape = count, shape
        self.memory = SharedBytes(count * (4 * shape[0] * shape[1] + 1))
        self._view()

    @property
    def num_bytes(self) -> int:
        return self.memory.num_bytes

    def get(self, index: int) -> NDArray[np.float32] | None:
        """The section, not to be changed; None if nobody has put it in."""
        return self._values[index] if self._filled[index] else None

    def put(self, index: int, section: NDArray[np.float32]) -> None:
        self._values[index] = section
        self._filled[index] = 1

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count, "shape": self.shape, "memory": self.memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    def _view(self) -> None:
        border = self.num_bytes - self.count
        self._values = self.memory.bytes[:border].view(np.float32).reshape(self.count, *self.shape)
        self._filled = self.memory.bytes[border:]


def _is_there(path: str, name: str) -> bool:
    """Whether ``path`` still leads to the file of this name; numbers of processes and handles are used again."""
    try:
        return name in (os.readlink(path) if path.startswith("/proc/") else path) and os.path.exists(path)
    except OSError:
        return False


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:
        path.unlink(missing_ok=True)
