"""How a run came to be: its line of parents, and what changed at each step; and how several runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamella.core.errors import UserError
from lamella.runs.folder import RunFolder, is_run

ABSENT = "(absent)"
"""Stands for the value of a key that a recipe does not have."""


@dataclass(frozen=True)
class Step:
    """One run in a line of parents; ``changes`` maps recipe keys to (parent's value, own value)."""

    run: RunFolder
    checkpoint: str | None
    """The parent's checkpoint that the run started from; None for a run from scratch."""
    changes: Mapping[str, tuple[Any, Any]]
    lost_parent: str | None = None
    """Path of a parent that is not there any more, at which the trace ends."""


def trace(run: RunFolder) -> list[Step]:
    """The line of parents that ends in ``run``, eldest first."""
    steps: list[Step] = []
    seen: set[str] = set()
    current: RunFolder | None = run
    while current is not None:
        where = str(current.path.resolve())
        if where in seen:
            raise UserError(f"run {current.name!r} is its own ancestor; mend 'parent' in its provenance.json")
        seen.add(where)
        step, current = _step(current)
        steps.append(step)
    return steps[::-1]


def differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Dotted keys whose values are not the same in all recipes, with the value in each.

    >>> differences([{"trainer": {"steps": 10, "seed": 1}}, {"trainer": {"steps": 20, "seed": 1}}])
    {'trainer.steps': (10, 20)}
    """
    flat = [flatten(recipe) for recipe in recipes]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    rows = {key: tuple(values.get(key, ABSENT) for values in flat) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings (and lists of mappings) as dotted keys.

    >>> flatten({"a": {"b": 1}, "c": [1, 2]})
    {'a.b': 1, 'c': [1, 2]}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _step(run: RunFolder) -> tuple[Step, RunFolder | None]:
    record = run.parent()
    if record is None:
        return Step(run, None, {}), None
    parent = run.path.resolve() / record["path"]
    if not is_run(parent):
        return Step(run, record["checkpoint"], {}, lost_parent=str(parent.resolve())), None
    folder = RunFolder(parent.resolve())
    old, new = folder.recipe(), run.recipe()
    changes = {key: (pair[0], pair[1]) for key, pair in differences([old, new]).items()}
    return Step(run, record["checkpoint"], changes), folder
