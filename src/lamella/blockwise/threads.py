"""Blocks in this process: while one block is computed, others are read and written.

Each lane is a thread that carries one block at a time from read to write. There are two lanes more than blocks that may be
computed at once, so one can read and one can write meanwhile; memory is bounded by one block per lane. Reading, writing and
numpy or torch arithmetic let go of Python's lock, so the lanes do run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from lamella.blockwise.blocks import Block
from lamella.blockwise.failure import Failure
from lamella.blockwise.job import Job
from lamella.blockwise.memory import return_freed_memory


class ThreadPool:
    """Runs blocks of ``job`` in threads of this process, ``workers`` computing at once."""

    def __init__(self, job: Job, blocks: Sequence[Block], workers: int) -> None:
        return_freed_memory()
        self._job, self._blocks = job, blocks
        self._tasks: SimpleQueue[int | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[int, Failure | None]] = SimpleQueue()
        self._computing = threading.BoundedSemaphore(workers)
        self._stopped = False
        self._lanes = [threading.Thread(target=self._lane, daemon=True, name=f"lane {i}") for i in range(workers + 2)]
        for lane in self._lanes:
            lane.start()

    def capacity(self) -> int:
        """How many blocks to hand over at a time: one in each lane and one waiting (a waiting block holds no voxels)."""
        return 2 * len(self._lanes)

    def submit(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._tasks.put(index)

    def collect(self) -> list[tuple[int, Failure | None]]:
        """Wait for at least one block; its index, and its failure if it has one."""
        results = [self._results.get()]
        try:
            while True:
                results.append(self._results.get_nowait())
        except Empty:
            return results

    def close(self) -> None:
        """Stop after the step that each lane is at; a second Ctrl-C does not wait even for that."""
        self._stopped = True
        for _ in self._lanes:
            self._tasks.put(None)
        for lane in self._lanes:
            lane.join()

    def _lane(self) -> None:
        while (index := self._tasks.get()) is not None and not self._stopped:
            self._results.put((index, self._attempt(index)))

    def _attempt(self, index: int) -> Failure | None:
        try:
            block = self._blocks[index]
            data = self._job.read(block)
            with self._computing:
                if self._stopped:
                    return Failure("stopped")
                result = self._job.compute(block, data)
            del data
            if self._stopped:
                return Failure("stopped")
            self._job.write(block, result)
        except BaseException as error:
            return Failure.of(error)
        return None
