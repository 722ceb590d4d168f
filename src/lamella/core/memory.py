"""Memory of a process that makes and drops the same large arrays again and again."""

from __future__ import annotations

import ctypes
import sys

_TRIM, _MMAPS, _ARENAS = -1, -4, -8  # options of mallopt (malloc.h of the GNU C library)


def keep_freed_memory() -> None:
    """Keep what is freed for the next arrays, instead of giving it back to the system and asking for it anew.

    The GNU C library maps each array above 32 MiB freshly, and the system fills it with zeros page by page: 40 % of the time of a
    net on tiles of 2048 pixels. The process then never shrinks, so this is for commands, not for libraries. Elsewhere it does nothing.
    """
    if sys.platform != "linux":
        return
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is not None:
        for option, value in ((_MMAPS, 0), (_TRIM, 2**31 - 1), (_ARENAS, 1)):
            tell(option, value)
