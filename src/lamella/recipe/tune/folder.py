"""The folder of a tuning: what was asked, its trials, and what came of them.

```
OUT/
    tuning.json     verb, settings, command, versions
    recipe.yaml     the recipe that is tuned, as written
    trials/NAME/    a run for each trial; checkpoints are kept of the best only
    trials.csv      a row for each trial
    report.html     charts and table
    best.yaml       the recipe with the winner filled in
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lamella.core.config import override, read_yaml
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_json
from lamella.core.provenance import provenance
from lamella.recipe.find import parse_recipe
from lamella.recipe.recipe import Recipe
from lamella.runs.history import differences

_FACTS, _RECIPE = "tuning.json", "recipe.yaml"


@dataclass(frozen=True)
class Tuning:
    """A folder with a tuning; ``begin`` makes it or finds it again."""

    path: Path

    @classmethod
    def begin(
        cls,
        path: Path,
        verb: str,
        recipe: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        may_change: Sequence[str] = (),
        overwrite: bool = False,
    ) -> Tuning:
        """A new folder, or one that the same command made before: then the tuning goes on.

        Raises UserError if ``path`` holds something else, or was made with another recipe or other settings than those that
        ``may_change`` (names of settings, or dotted keys that begin with ``recipe.``).
        """
        tuning = cls(path)
        if path.exists() and not (path / _FACTS).is_file():
            raise UserError(f"{path} exists and holds no tuning; choose another OUT")
        if path.exists() and overwrite:
            with tuning.alone():
                shutil.rmtree(path)
        if not path.exists():
            tuning._make(verb, recipe, settings)
        tuning._check(verb, recipe, settings, may_change)
        return tuning

    @classmethod
    def open(cls, path: str | Path) -> Tuning:
        """The tuning in a folder."""
        if not (Path(path) / _FACTS).is_file():
            raise UserError(f"{path} holds no tuning; give the OUT of a lamella tune command")
        return cls(Path(path))

    @property
    def trials(self) -> Path:
        """The folder of the trials' runs."""
        return self.path / "trials"

    def facts(self) -> dict[str, Any]:
        """Verb, settings and how the folder was made."""
        return json.loads((self.path / _FACTS).read_text())

    def recipe_values(self, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of the recipe as written, with ``changes`` (dotted keys to values)."""
        return changed(read_yaml(self.path / _RECIPE), changes or {})

    def recipe(self, changes: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe with ``changes``."""
        return parse_recipe(self.recipe_values(changes), f"the recipe of {self.path}")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from working here."""
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(f"another process is tuning in {self.path}; wait for it or stop it") from None

    def _make(self, verb: str, recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        try:
            with replacing(self.path) as beside:
                (beside / "trials").mkdir(parents=True)
                (beside / _RECIPE).write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
                write_json(beside / _FACTS, {"verb": verb, "settings": dict(settings), **provenance()})
        except OSError:
            if not (self.path / _FACTS).is_file():  # else another process of the same tuning was first
                raise

    def _check(
        self, verb: str, recipe: Mapping[str, Any], settings: Mapping[str, Any], may_change: Sequence[str]
    ) -> None:
        facts = self.facts()
        mine = {"verb": verb, "settings": json.loads(json.dumps(settings, default=str)), "recipe": dict(recipe)}
        kept = {"verb": facts["verb"], "settings": facts["settings"], "recipe": self.recipe_values()}
        allowed = tuple(key if key.startswith("recipe.") else f"settings.{key}" for key in may_change)
        changes = {
            key: pair
            for key, pair in differences([kept, mine]).items()
            if not any(key == name or key.startswith(f"{name}.") for name in allowed)
        }
        if changes:
            told = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changes.items())
            raise UserError(
                f"{self.path} holds another tuning: {told}; choose another OUT, or replace it by --overwrite"
            )


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with dotted keys set to values."""
    return override(values, [assignment(key, value) for key, value in changes.items()])


def assignment(key: str, value: Any) -> str:
    """A change as it is written on the command line.

    >>> assignment("trainer.learning_rate", 1e-05)
    'trainer.learning_rate=1.0e-05'
    """
    text = yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()
    return f"{key}={text[1:-1]}"
