"""A small memory of what was last decoded, for files whose smallest readable piece is larger than what is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

LIMIT_BYTES = 64 << 20  # per volume; a section of 8192² uint8, and several may be open in each of several workers


class Recent:
    """Keeps the arrays used last, up to ``limit`` bytes and at least one; safe from several threads, empty after pickling.

    Threads that want the same array wait for the first to make it; others do not wait.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def __getstate__(self) -> int:
        return self.limit

    def __setstate__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array under ``key``, made now if it is not remembered. Do not change it."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._arrays:
                    return self._arrays[key]
            try:
                array = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            self._keep(key, array)
        return array

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._arrays.pop(key, None)

    def _keep(self, key: Hashable, array: NDArray[Any]) -> None:
        with self._lock:
            self._arrays[key] = array
            while len(self._arrays) > 1 and sum(a.nbytes for a in self._arrays.values()) > self.limit:
                self._arrays.popitem(last=False)
