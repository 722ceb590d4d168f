"""Running a grid: the combinations that are not done, one after another, several at once, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.blockwise import Block, Executor
from lamella.blockwise import run as run_blocks
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.recipe.grid.plan import Plan
from lamella.recipe.grid.work import Busy, Stopped, Work
from lamella.recipe.tune.crew import each, say


@dataclass(frozen=True)
class Ran:
    """What became of a combination: its number, what went wrong if something did, and whether another process has it."""

    number: int
    failure: str | None = None
    busy: bool = False


def run_grid(plan: Plan, *, index: int | None = None, jobs: int = 1, dask: str | None = None) -> list[Ran]:
    """Do what is left of all combinations, or of the one of number ``index``; ``jobs`` at once, or as many as a cluster has workers.

    Combinations that another process is at work on are passed over. Raises KeyboardInterrupt if it was interrupted.
    """
    if dask is not None and jobs > 1:
        raise UserError("--jobs are processes of this machine, and --dask has workers of its own; give one of them")
    chosen = plan.contrastive if index is None else (plan.of(index),)
    works = [Work(plan, combination) for combination in chosen]
    left = [work for work in works if work.state() not in ("done", "running")]
    for work in works:
        if work.state() == "running" and index is not None:
            raise Busy(f"another process is at work on {work.folder}; wait for it or stop it")
    found: list[Ran] = []
    for ran in _on_cluster(left, dask) if dask is not None else each(do, left, jobs, plan.path / "log.txt"):
        if ran.failure:
            say(f"combination-{ran.number} failed: {ran.failure}")
        found += [] if ran.busy else [ran]
    return found


def do(work: Work) -> Ran:
    """Do one combination, unless another process is at work on it."""
    try:
        return Ran(work.combination.number, work())
    except Busy:
        return Ran(work.combination.number, busy=True)
    except Stopped:
        raise KeyboardInterrupt from None


@dataclass(frozen=True)
class GridJob:
    """Block ``k`` is combination ``k`` of ``works``."""

    works: tuple[Work, ...]

    def identity(self) -> dict[str, Any]:
        return {"combinations": [str(work.folder) for work in self.works]}

    def read(self, block: Block) -> Work:
        return self.works[block.index]

    def compute(self, block: Block, data: Work) -> Ran:
        return do(data)

    def write(self, block: Block, result: Ran) -> None:
        """Everything is in the combination's folder."""


def _on_cluster(works: Sequence[Work], dask: str) -> Iterator[Ran]:
    blocks = [Block(k, Box((k,), (k + 1,)), Box((k,), (k + 1,))) for k in range(len(works))]
    executor = Executor(dask=dask, retries=0, timeout_s=None)
    run_blocks(GridJob(tuple(works)), blocks, label="combinations", executor=executor)
    for work in works:
        yield Ran(work.combination.number, work.failure() or None)


def script(recipe: Path, plan: Plan) -> str:
    """The one line that runs a grid as a SLURM array, one combination a task."""
    numbers = ",".join(_ranges([c.number for c in plan.contrastive]))
    return f"sbatch --array={numbers} --wrap 'lamella grid run {recipe} --index $SLURM_ARRAY_TASK_ID'"


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Numbers as SLURM writes them.

    >>> _ranges([0, 1, 2, 5])
    ['0-2', '5']
    """
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs]
