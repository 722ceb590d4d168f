"""What goes wrong with blocks: failures that may pass, failures that stop the run, and blocks that are given up."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lamella.blockwise.blocks import Block
from lamella.core.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = (
    "no space left on device",
    "disk quota exceeded",
)  # format libraries wrap the system's error in their own
_NAMED = 10  # poisoned blocks that the message names


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a block, as plain values that travel between processes.

    ``stops`` holds the message for the user if trying again, or trying other blocks, is pointless. ``killed`` says that the
    worker died, which may be the doing of another block.
    """

    reason: str
    details: str = ""
    stops: str | None = None
    killed: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What ``error`` means: a UserError and a full disk stop the run, anything else may be tried again."""
        reason = f"{type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(error))
        stops = None
        if isinstance(error, UserError):
            stops = str(error)
        elif is_full_disk(error):
            stops = f"the disk is full ({error}); what is done is kept: free some space and run the same command again"
        elif not isinstance(error, Exception):
            stops = f"stopped by {reason}"
        return cls(reason, details, stops)


class PoisonedBlocks(UserError):
    """Some blocks failed at every attempt; all others are done. ``failures`` holds the last failure of each by index."""

    def __init__(self, failures: Mapping[int, Failure], blocks: Sequence[Block], num_left: int = 0) -> None:
        self.failures = dict(failures)
        named = [f"  block {i} ({blocks[i].write}): {self.failures[i].reason}" for i in sorted(failures)[:_NAMED]]
        more = [f"  and {len(failures) - _NAMED} more"] if len(failures) > _NAMED else []
        state = f"so many that the run stopped with {num_left} not tried" if num_left else "all others are done"
        head = f"{len(failures)} of {len(blocks)} blocks failed at every attempt; {state}:"
        hint = "see to the cause and run the same command again; it tries only what is not done"
        super().__init__("\n".join([head, *named, *more, hint]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_full_disk(error: BaseException) -> bool:
    """Whether ``error``, or one that led to it, says that there is no space left."""
    return any(_says_full(e) for e in _chain(error))


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error).lower() for words in _FULL_WORDS)
