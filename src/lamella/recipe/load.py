"""A trained run, ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.core.errors import UserError
from lamella.recipe.find import open_checkpoint, parse_recipe
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
