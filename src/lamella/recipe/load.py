"""A trained run, ready to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.find import member_names, open_checkpoint, parse_recipe
from lamella.recipe.recipe import Recipe
from lamella.runs import RunFolder

if TYPE_CHECKING:
    from lamella.train.task import Task


@dataclass(frozen=True)
class LoadedRun:
    """A run with its recipe and its task, whose net holds the weights of ``checkpoint`` in evaluation mode, on the CPU."""

    folder: RunFolder
    checkpoint: str
    recipe: Recipe
    task: Task


def load_run(run: str | Path, *, runs: str | Path = "runs", task: str | None = None) -> LoadedRun:
    """Load ``RUN`` or ``RUN:CHECKPOINT`` (the best one, or the last where none is best) from the run's folder alone.

    Raises UserError for a run that is not there, has no such checkpoint, or is of another task than ``task``.
    """
    from lamella.train.checkpoints import load_weights, read_checkpoint, weights

    folder, checkpoint = open_checkpoint(run, runs)
    recipe = parse_recipe(folder.recipe(), str(folder.path), task=task)
    built = recipe.task.build()
    source = f"run {folder.name!r}, checkpoint {checkpoint!r}"
    loaded = load_weights(built.net, weights(read_checkpoint(folder.checkpoint(checkpoint))), source)
    if loaded.missing or loaded.mismatched or loaded.unused:
        raise UserError(
            f"{source} does not hold the net of its own recipe.yaml ({loaded.summary()}); restore the recipe"
        )
    built.net.eval()
    return LoadedRun(folder, checkpoint, recipe, built)


@dataclass(frozen=True)
class Members:
    """Runs that predict together, the first of which speaks for all, and what to record of where they came from."""

    runs: tuple[LoadedRun, ...]

    @property
    def first(self) -> LoadedRun:
        return self.runs[0]

    @property
    def facts(self) -> dict[str, Any]:
        """``run``, ``checkpoint`` and ``recipe`` of the first; of several also those of each, as ``members``."""
        each = [{"run": r.folder.name, "checkpoint": r.checkpoint, "recipe": r.recipe.to_dict()} for r in self.runs]
        return each[0] if len(each) == 1 else {**each[0], "members": each}


def load_members(runs_named: str | Path, same: Sequence[str], *, runs: str | Path = "runs", task: str) -> Members:
    """Load ``RUN``, ``RUN:CHECKPOINT``, or several of these with commas between.

    Raises UserError as ``load_run`` does, and for runs that differ in a key of ``same`` (``task.net.ndim``, say), since what they give could
    not be averaged.
    """
    names = member_names(runs_named, runs)
    found = tuple(load_run(name, runs=runs, task=task) for name in names)
    for name, other in zip(names[1:], found[1:], strict=True):
        for key in same:
            here, there = (_value(run.recipe.to_dict(), key) for run in (found[0], other))
            if here != there:
                raise UserError(
                    f"runs {names[0]!r} and {name!r} differ in {key} ({_short(here)} and {_short(there)}), so their outputs cannot be "
                    f"averaged; train both with the same {key}, or predict with one of them"
                )
    return Members(found)


def _value(recipe: Any, key: str) -> Any:
    for part in key.split("."):
        recipe = recipe.get(part) if isinstance(recipe, dict) else None
    return recipe


def _short(value: Any, length: int = 120) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[:length]} ..."
