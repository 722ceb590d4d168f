"""The blocks of several volumes in a row, to be done as one job: one bar, one ledger, and small volumes side by side."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

from lamella.blockwise.blocks import Block, Cover


class Chain(Sequence[Block]):
    """The blocks of ``covers``, one cover after the other; a block's index is its place in the chain.

    ```
    cover 0  |0|1|2|3|   cover 1  |0|1|
    chain    |0|1|2|3|            |4|5|
    ```
    """

    def __init__(self, covers: Sequence[Cover]) -> None:
        self.covers = tuple(covers)
        self._starts = [0, *accumulate(len(cover) for cover in self.covers)]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        which = bisect_right(self._starts, index) - 1
        return replace(self.covers[which][index - self._starts[which]], index=index)

    def volume_of(self, block: Block) -> int:
        """The number of the cover that a block belongs to."""
        return bisect_right(self._starts, block.index) - 1
