"""One combination from beginning to end: contrast net, embeddings, heads on each checkpoint, validation of each head.

```
GRID/
    grid.json                       the grid, and the numbers of its combinations
    combination-0/
        combination.json            its recipe and the rest of the grid, as it was run
        contrastive/                the run of the contrast net
        embs/CHECKPOINT/0/          embeddings of the first source of the heads' data, 1/ of the next, ...
        seg/combination-0/CHECKPOINT/       the run of a head on that checkpoint; ``none`` for a head on none
            validation/             what lamella evaluate heads writes
        failed.json                 why it failed, until it is run again
    table.csv                       see ``collect``
```

Each step goes on where it was killed, and what is finished is left as it is.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lamella.blockwise.unfinished import folder_beside
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.provenance import provenance
from lamella.recipe.find import parse_recipe
from lamella.recipe.grid.config import GridConfig
from lamella.recipe.grid.plan import Combination, Plan, fitted
from lamella.recipe.recipe import Recipe
from lamella.recipe.tune.crew import abandoned, say
from lamella.recipe.tune.trials import INTERRUPTED
from lamella.runs import RunFolder
from lamella.runs.folder import is_run

CONTRASTIVE = "contrastive"
NONE = "none"  # the contrast checkpoint of heads that are on none
_VALIDATION = "validation.json"
_LOOK = 10.0  # seconds that the work waits for others who only look how far it is


class Busy(UserError):
    """Another process is at work on the combination."""


class Stopped(Exception):
    """The work was interrupted, and can be gone on with."""


@dataclass(frozen=True)
class HeadPlace:
    """A head: which seg combination on which contrast checkpoint, and where its run is."""

    seg: Combination
    checkpoint: str
    path: Path

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def validation(self) -> Path:
        return self.path / "validation"


@dataclass(frozen=True)
class Work:
    """One combination of a plan. Picklable; calling it does what is left to do."""

    plan: Plan
    combination: Combination

    @property
    def folder(self) -> Path:
        return self.plan.folder(self.combination)

    @property
    def contrastive(self) -> RunFolder:
        return RunFolder(self.folder / CONTRASTIVE)

    @property
    def config(self) -> GridConfig:
        return self.plan.config

    def __call__(self) -> str | None:
        """Do what is left; what went wrong, if it did, which is noted in ``failed.json`` too.

        Raises Stopped for an interruption, and Busy if another process is at work here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone(_LOOK):
            (self.folder / "failed.json").unlink(missing_ok=True)
            self._note()
            try:
                self._do()
            except (Stopped, KeyboardInterrupt):
                raise
            except Exception as error:  # the other combinations go on
                told = str(error) or type(error).__name__
                write_json(
                    self.folder / "failed.json", {"error": told, "traceback": traceback.format_exc(), **provenance()}
                )
                return told
        return None

    def heads(self) -> list[HeadPlace]:
        """All heads that there are to be, as far as the contrast net's checkpoints are known."""
        found = []
        for seg in self.plan.seg:
            names = self.checkpoints() if seg.reads in ("base", "embeddings") else [NONE]
            found += [HeadPlace(seg, name, self.folder / "seg" / seg.name / name) for name in names]
        return found

    def checkpoints(self) -> list[str]:
        """The contrast checkpoints that heads are put on."""
        wanted = list(self.config.contrastive.checkpoints)
        if wanted != ["all"]:
            return wanted
        return self.contrastive.checkpoints() if is_run(self.contrastive.path) else []

    def _do(self) -> None:
        if not is_trained(self.contrastive):
            self._train(self.contrastive_recipe(), CONTRASTIVE, self.folder)
        for name in self.checkpoints():
            self.contrastive.checkpoint(name)
        for head in self.heads():
            self._head(head)
            if not self.is_validated(head):
                self._validate(head)

    def contrastive_recipe(self) -> Recipe:
        return parse_recipe(self.combination.values, self.combination.name, task="contrast")

    def _head(self, head: HeadPlace) -> None:
        if is_trained(head.run):
            return
        values, parent = fitted(head.seg, self.combination), None
        if head.seg.reads == "embeddings":
            values = self._on_embeddings(values, head.checkpoint)
        if head.seg.reads == "base":
            parent = f"{self.contrastive.path}:{head.checkpoint}"
        recipe = parse_recipe(values, f"{self.combination.name} seg {head.seg.name}", task="head")
        self._train(recipe, head.checkpoint, head.path.parent, parent)

    def _train(self, recipe: Recipe, name: str, runs: Path, parent: str | None = None) -> None:
        from lamella.recipe.train import train

        say(f"{self.combination.name}: training {(runs / name).relative_to(self.folder)}")
        run, outcome = train(recipe, name, runs=runs, parent=parent, resume=True, judge=_unless_abandoned)
        if outcome.reason == INTERRUPTED or not is_trained(run):
            raise Stopped

    def _on_embeddings(self, values: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
        """The values of a head's recipe with the embeddings of its images in their place, which are made if they are not there."""
        from lamella.recipe.grid.embeddings import embedded

        folder = self.folder / "embs" / checkpoint
        return embedded(values, f"{self.contrastive.path}:{checkpoint}", folder, self.config.seg.dtype)

    def _validate(self, head: HeadPlace) -> None:
        from lamella.recipe.validate.candidates import heads
        from lamella.recipe.validate.run import validate

        wanted = self.config.validation
        say(f"{self.combination.name}: validating {head.path.relative_to(self.folder)}")
        # runs: where the head on embeddings finds the net that made them
        found = heads(str(head.path), self._head_checkpoints(head), device="auto", runs=self.folder)
        asked = self._asked()
        validate(
            found,
            wanted.source,
            head.validation,
            wanted.settings,
            wanted.method,
            overwrite=_asked_of(head) not in (None, asked),
            facts={"asked": asked, "head": head.run.name, "seg": head.seg.name},
        )

    def _head_checkpoints(self, head: HeadPlace) -> list[str]:
        """The checkpoints of a head that are validated; the last where none is best."""
        there = head.run.checkpoints()
        wanted = self.config.validation.checkpoints
        return list(dict.fromkeys("last" if name == "best" and name not in there else name for name in wanted))

    def is_validated(self, head: HeadPlace) -> bool:
        """Whether the validation is finished, and was asked for as it is now."""
        return _asked_of(head) == self._asked() and not folder_beside(head.validation).exists()

    def _asked(self) -> dict[str, Any]:
        wanted: dict[str, Any] = json.loads(json.dumps(self.config.validation.to_dict()))
        return wanted

    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        heads = self.heads()
        return is_trained(self.contrastive) and bool(heads) and all(map(self.is_headed, heads))

    def is_headed(self, head: HeadPlace) -> bool:
        """Whether a head is trained and validated."""
        return is_trained(head.run) and self.is_validated(head)

    def state(self) -> str:
        """``new``, ``running``, ``done``, ``failed`` or ``killed``."""
        if not self.folder.exists():
            return "new"
        try:
            with self._alone():
                if self.is_done():
                    return "done"
                return "failed" if (self.folder / "failed.json").exists() else "killed"
        except Busy:
            return "running"

    def failure(self) -> str:
        """Why it failed, in one line."""
        file = self.folder / "failed.json"
        return str(json.loads(file.read_text())["error"]).splitlines()[0] if file.exists() else ""

    @contextmanager
    def _alone(self, wait: float = 0.0) -> Iterator[None]:
        lock = FileLock(self.folder / ".lock", timeout=wait)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(f"another process is at work on {self.folder}; wait for it or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def _note(self) -> None:
        """What the folder is, so that it can be understood, and done again, by itself."""
        segs = {seg.name: {"recipe": seg.values, "reads": seg.reads, "varied": seg.varied} for seg in self.plan.seg}
        own = {"contrastive": self.combination.values, "varied": self.combination.varied, "seg": segs}
        note = json.loads(json.dumps({"number": self.combination.number, **own, "grid": self.plan.contents}))
        file = self.folder / "combination.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        if {key: kept.get(key) for key in note} != note:
            write_json(file, {**note, "made": provenance()})


def _asked_of(head: HeadPlace) -> Any:
    """What a head's validation was asked for; None if there is none."""
    record = head.validation / _VALIDATION
    return json.loads(record.read_text()).get("asked") if record.is_file() else None


def is_trained(run: RunFolder) -> bool:
    """Whether a run has come to its end."""
    if not is_run(run.path):
        return False
    facts = run.provenance()
    return facts.get("state") in ("finished", "stopped") and facts.get("reason") != INTERRUPTED


def _unless_abandoned(step: int, row: Mapping[str, float | str]) -> str | None:
    return INTERRUPTED if abandoned() else None
