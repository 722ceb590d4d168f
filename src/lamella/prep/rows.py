"""Measuring many frames: each block of frames becomes rows of numbers in one file, so that a killed measurement goes on.

The file lies beside what is being made and has its full length from the start. Memory is that of a few frames and rows, however many
frames there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, Unfinished, cover, run
from lamella.core.box import Box
from lamella.io.flat import read_flat, write_flat

Measure = Callable[[Sequence[Any]], NDArray[Any]]


@dataclass(frozen=True)
class RowsJob:
    """Block ``i`` is the items ``block.write``; ``measure`` makes rows (items, width) of them, or one row for all if ``summed``."""

    items: tuple[Any, ...]
    measure: Measure
    file: Path
    shape: tuple[int, int]
    dtype: str
    summed: bool

    def identity(self) -> dict[str, Any]:
        return {"items": [str(i) for i in self.items], "shape": list(self.shape), "dtype": self.dtype}

    def read(self, block: Block) -> None:
        return None

    def compute(self, block: Block, data: None) -> NDArray[Any]:
        """Frames are read one by one as they are measured, since a block may hold more than fit in memory."""
        return self.measure(self.items[block.write.start[0] : block.write.stop[0]])

    def write(self, block: Block, result: NDArray[Any]) -> None:
        first = block.index if self.summed else block.write.start[0]
        box = Box((first, 0), (first + len(result), self.shape[1]))
        write_flat(self.file, 0, self.shape, self.dtype, box, result.astype(self.dtype))


def measure_rows(
    items: Sequence[Any],
    measure: Measure,
    width: int,
    *,
    begun: Unfinished,
    label: str,
    executor: Executor,
    dtype: str = "float32",
    groups: int | None = None,
) -> Rows:
    """Rows of ``width`` numbers for ``items``; with ``groups``, at most that many rows, each of several items that follow each other.

    The work is recorded in ``begun``'s folder under ``label``.
    """
    size = max(1, -(-len(items) // groups)) if groups else 1
    count = -(-len(items) // size) if groups else len(items)
    file = begun.folder / f"{label.replace(' ', '-')}.rows"
    if not file.exists():
        with open(file, "wb") as handle:
            handle.truncate(max(count * width * np.dtype(dtype).itemsize, 1))
    block = size if groups else max(1, min(8, len(items) // 16))
    job = RowsJob(tuple(items), measure, file, (count, width), dtype, groups is not None)
    blocks = cover(Box.of((len(items),)), block)
    run(job, blocks, label=label, ledger=begun.ledger(label.replace(" ", "-")), executor=executor)
    return Rows(file, (count, width), dtype)


@dataclass(frozen=True)
class Rows:
    """The file of rows; read in parts."""

    file: Path
    shape: tuple[int, int]
    dtype: str

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        return read_flat(self.file, 0, self.shape, self.dtype, Box((start, 0), (max(stop, start), self.shape[1])))

    def taken(self, indices: Sequence[int]) -> NDArray[Any]:
        """Single rows."""
        return np.concatenate([self[i : i + 1] for i in indices])
