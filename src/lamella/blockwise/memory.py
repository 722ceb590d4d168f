"""Memory that blocks let go of returns to the system, so that the end of a long walk takes no more than its beginning.

glibc's allocator gives a large array a mapping of its own, which ends when the array is freed. What is large is at first 128 KiB,
but rises to the size of whatever large array was freed, up to 32 MiB. From then on arrays share heaps, one for every few threads,
that fragment and stay as large as they ever were: aligning 64 tiles of 640 px took 767 MiB and growing, and takes 534 MiB with a
limit that stays, for about a tenth more time. See mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 20  # bytes; below, heaps are faster and fragments small


@cache
def return_freed_memory() -> None:
    """Fix what counts as large for this process. Does nothing where the C library is not glibc or the user has set it."""
    if os.name == "posix" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGE)
