"""Where recipes come from: a YAML file, one that lamella ships, or the recipe of a run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamella.core.config import override, read_yaml
from lamella.core.errors import UserError
from lamella.recipe.recipe import TASKS, Recipe
from lamella.runs import RunFolder
from lamella.runs.folder import is_run

_SHIPPED = Path(__file__).parent / "recipes"


def shipped() -> list[str]:
    """Names of the recipes that come with lamella."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_recipe(source: str | Path, changes: Sequence[str] = (), *, task: str | None = None) -> Recipe:
    """The recipe of a YAML file, a shipped name or a run's folder, with ``key=value`` changes.

    Raises UserError for a recipe that is not there, a key that no config has, or another task than ``task``.
    """
    return parse_recipe(recipe_values(source, changes), str(source), task=task)


def recipe_values(source: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a recipe as written, with ``changes`` and without defaults; sources as for ``load_recipe``."""
    return override(read_yaml(_find(source)), changes)


def parse_recipe(values: dict[str, Any], source: str, *, task: str | None = None) -> Recipe:
    """Check the values of a recipe; ``source`` names it in errors."""
    kind = task_kind(values, source)
    expect_task(kind, task, source)
    return Recipe.load(values, source)


def task_kind(values: dict[str, Any], source: str) -> str:
    """Which task a recipe is for."""
    section = values.get("task")
    kind = section.get("kind") if isinstance(section, dict) else None
    if kind not in TASKS:
        raise UserError(f"{source}: 'task.kind' is {kind!r}; this lamella has the tasks {', '.join(TASKS)}")
    return kind


def expect_task(kind: str, wanted: str | None, source: str) -> None:
    """Refuse a recipe or run of another task than the ``wanted`` one."""
    if wanted is not None and kind != wanted:
        raise UserError(f"{source} is of the task {kind!r}; this needs one of the task {wanted!r}")


def split_checkpoint(run: str) -> tuple[str, str | None]:
    """``"first:best"`` as run and checkpoint; the checkpoint is None where none is named."""
    name, colon, checkpoint = run.rpartition(":")
    if not colon or is_run(Path(run)):
        return run, None
    return name, checkpoint or None


def open_checkpoint(run: str | Path, runs: str | Path = "runs") -> tuple[RunFolder, str]:
    """The run and the checkpoint of ``RUN`` or ``RUN:CHECKPOINT``: without a name the best one, or the last if none is best."""
    name, checkpoint = split_checkpoint(str(run))
    folder = RunFolder.open(name, runs)
    if checkpoint is None:
        checkpoint = "best" if "best" in folder.checkpoints() else "last"
    folder.checkpoint(checkpoint)
    return folder, checkpoint


def member_names(runs_named: str | Path, runs: str | Path = "runs") -> list[str]:
    """The runs, with their checkpoints, that ``RUN`` or ``RUN,RUN,RUN`` names. A name or path of a run may have commas of its own."""
    whole = str(runs_named)
    name = split_checkpoint(whole)[0]
    if "," not in whole or is_run(Path(name)) or is_run(Path(runs) / name):
        return [whole]
    names = [name.strip() for name in whole.split(",")]
    if not all(names):
        raise UserError(
            f"{whole!r} names a run that has no name; give RUN, or RUN,RUN,RUN without a comma at either end"
        )
    return names


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if is_run(path):
        return path / "recipe.yaml"
    if str(source) in shipped():
        return _SHIPPED / f"{source}.yaml"
    near = difflib.get_close_matches(str(source), shipped(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"lamella ships {', '.join(shipped())}"
    raise UserError(f"no recipe {str(source)!r}: it is no YAML file, no folder of a run, and no shipped recipe; {hint}")
