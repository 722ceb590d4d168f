"""Running a job over blocks: what every verb that walks a volume goes through.

``run`` works out which blocks are not done, keeps a bounded number of them under way in a pool (threads of this process, or a
Dask cluster), records each in the ledger once its write returned, tries failed ones again, and names those that never succeed.

A block whose worker died may be the innocent neighbour of the one that killed it. Such blocks wait until all others are done
and then run alone, one after another: who still kills its worker then is poisoned.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lamella.blockwise.blocks import Block
from lamella.blockwise.executor import Crew, Executor, Pool
from lamella.blockwise.failure import Failure, PoisonedBlocks
from lamella.blockwise.job import Job, identity
from lamella.blockwise.ledger import Ledger
from lamella.core.errors import UserError
from lamella.core.progress import Meter, progress

_POISON_LIMIT = 100  # past this many, the fault is hardly the blocks'; trying a million more would only take time


@dataclass(frozen=True)
class Report:
    """What a run did: blocks in all, done by earlier runs, done now, attempts that failed and were repeated, wall time."""

    total: int
    skipped: int
    done: int
    retried: int
    seconds: float


def run(
    job: Job,
    blocks: Sequence[Block],
    *,
    label: str,
    ledger: Path | None = None,
    executor: Executor | Crew | None = None,
    meter: Meter | None = None,
) -> Report:
    """Do ``job`` for every block that ``ledger`` does not hold as done; ``label`` names the progress bar.

    Work that takes several runs shows one bar if it hands its ``meter`` to each, whose total counts the blocks of all; and it
    starts a cluster only once if it hands over a ``Crew`` in place of the executor.

    Raises PoisonedBlocks, after all other blocks are done, if some failed at every attempt; a UserError at once if a block
    raises one, if the disk is full, or if the ledger belongs to another job. Ctrl-C and kill leave a ledger to go on from.
    """
    start = time.monotonic()
    with Ledger(ledger, identity(job, blocks) if ledger else {}, len(blocks)) as book, ExitStack() as stack:
        crew = executor if isinstance(executor, Crew) else stack.enter_context(Crew(executor or Executor()))
        skipped = len(book)
        tally = _Tally(blocks, book, crew.executor.retries)
        if meter is not None:
            meter.skip(skipped)
        if skipped < len(blocks):
            bar = meter or stack.enter_context(progress(label, len(blocks) - skipped))
            _drive(stack.enter_context(crew.pool(job, blocks)), tally, bar)
            stack.close()
        if tally.poisoned:
            raise PoisonedBlocks(tally.poisoned, blocks)
        return Report(len(blocks), skipped, len(book) - skipped, tally.retried, time.monotonic() - start)


class _Tally:
    """Keeps account of blocks: recorded, tried again, given up."""

    def __init__(self, blocks: Sequence[Block], book: Ledger, retries: int) -> None:
        self.blocks, self.book, self.retries = blocks, book, retries
        self.poisoned: dict[int, Failure] = {}
        self.retried = 0
        self._failed: Counter[int] = Counter()

    def again(self, index: int, failure: Failure) -> bool:
        """Take note of a failed attempt; whether the block is to be tried once more."""
        self._failed[index] += 1
        if self._failed[index] > self.retries:
            self.poison(index, failure)
            return False
        self.retried += 1
        return True

    def poison(self, index: int, failure: Failure) -> None:
        self.poisoned[index] = failure
        left = len(self.blocks) - len(self.book) - len(self.poisoned)
        if len(self.poisoned) > _POISON_LIMIT and left:
            raise PoisonedBlocks(self.poisoned, self.blocks, left)


def _drive(pool: Pool, tally: _Tally, meter: Meter) -> None:
    """Keep the pool full until every block is recorded or given up."""
    waiting, again, suspects = tally.book.pending(), deque[int](), deque[int]()
    flying = 0
    while True:
        if (room := pool.capacity() - flying) > 0:
            batch = [again.popleft() for _ in range(min(room, len(again)))]
            batch += islice(waiting, room - len(batch))
            pool.submit(batch)
            flying += len(batch)
        if not flying:
            break
        for index, failure in pool.collect():
            flying -= 1
            if failure is None:
                _record(index, tally, meter)
            elif _stop_or_suspect(failure):
                suspects.append(index)
            elif tally.again(index, failure):
                again.append(index)
    while suspects:
        _alone(suspects.popleft(), pool, tally, meter)


def _alone(index: int, pool: Pool, tally: _Tally, meter: Meter) -> None:
    """Run one block with nothing beside it, so that its failures are its own."""
    while True:
        pool.submit([index])
        ((_, failure),) = pool.collect()
        if failure is None:
            return _record(index, tally, meter)
        if _stop_or_suspect(failure):
            return tally.poison(index, failure)
        if not tally.again(index, failure):
            return None


def _record(index: int, tally: _Tally, meter: Meter) -> None:
    tally.book.record(index)
    meter.advance(note=f"{len(tally.poisoned)} failed" if tally.poisoned else None)


def _stop_or_suspect(failure: Failure) -> bool:
    """Raise if the failure ends the run; else whether the worker died."""
    if failure.stops is not None:
        raise UserError(failure.stops)
    return failure.killed
