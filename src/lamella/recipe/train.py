"""From a recipe to a trained run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.data.embeddings import Origin
from lamella.recipe.bases import PARENTS, check_data, check_loaded, check_start, on_base
from lamella.recipe.find import expect_task, open_checkpoint, parse_recipe, split_checkpoint, task_kind
from lamella.recipe.recipe import Recipe
from lamella.runs import RunFolder
from lamella.runs.folder import check_name, is_run
from lamella.runs.history import differences
from lamella.train.batches import HeldOut, Samples
from lamella.train.checkpoints import Loaded, digest, load_weights, read_checkpoint, weights
from lamella.train.config import accelerator, is_first_process
from lamella.train.task import Task

if TYPE_CHECKING:
    from lamella.train.fit import Outcome
    from lamella.train.steps import Judge

_MAY_CHANGE = ("device", "gpu_memory", "num_workers", "threads", "max_seconds", "max_cpu_seconds")
"""Trainer settings that may differ when a run is resumed: they say where and how long, not what."""

_HELD_OUT_SEED = 0
"""Held-out samples are the same for runs of any seed, so that their scores can be compared."""


@dataclass(frozen=True)
class Parent:
    """A checkpoint to start from."""

    run: RunFolder
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.run.name}:{self.checkpoint}"

    def load(self, task: Task) -> Loaded:
        """Put the weights that fit into the task's net."""
        return load_weights(task.net, weights(read_checkpoint(self.run.checkpoint(self.checkpoint))), str(self))

    def record(self, child: RunFolder, loaded: Loaded) -> dict[str, Any]:
        """What the child notes of its parent."""
        return {
            "name": self.run.name,
            "path": child.parent_record(self.run),
            "checkpoint": self.checkpoint,
            "sha256": digest(self.run.checkpoint(self.checkpoint)),
            "not_in_parent": loaded.missing,
            "other_shape": loaded.mismatched,
            "unused": loaded.unused,
        }


@dataclass(frozen=True)
class Training:
    """A recipe made ready: data opened, task built, first weights set. ``loaded`` tells what came from the parent."""

    recipe: Recipe
    task: Task
    samples: Samples
    held_out: HeldOut | None
    parent: Parent | None = None
    loaded: Loaded | None = None
    origin: Origin | None = None
    """The checkpoint whose embeddings are learnt from, if the data are embeddings."""

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.task.net.parameters())


def train(
    recipe: Recipe,
    name: str,
    *,
    runs: str | Path = "runs",
    parent: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    judge: Judge | None = None,
) -> tuple[RunFolder, Outcome]:
    """Train ``recipe`` into the run ``runs/name``; from the weights of ``parent`` if given.

    ``resume`` goes on with the run of that name where it stopped, and starts it if there is none. The recipe must then be the
    run's own, but for where it runs and for how long. ``judge`` may end the run (see ``fit``).
    """
    recipe = recipe.settled()
    run = RunFolder(Path(runs) / name)
    resume = resume and is_run(run.path)
    recipe = on_base(recipe, parent or _recorded(run, resume), runs)
    if resume:
        parent = _check_resume(recipe, run, parent)
    elif is_first_process(recipe.trainer):
        check_name(name, runs, overwrite=overwrite)
    if not resume:
        check_start(recipe, parent)
    training = prepare(recipe, parent=parent, runs=runs)
    if resume and training.origin != Origin.read(run.provenance()):
        raise UserError(
            f"run {name!r} was trained on embeddings of another checkpoint than the data hold now; choose another --name"
        )
    if training.parent and training.parent.run.path.resolve() == run.path.resolve():
        raise UserError(f"run {name!r} cannot replace the run it starts from; choose another --name")
    if not resume and is_first_process(recipe.trainer):
        facts: dict[str, Any] = {"seed": recipe.seed, **(training.origin.record() if training.origin else {})}
        if training.parent and training.loaded:
            facts["parent"] = training.parent.record(run, training.loaded)
            print(f"weights of {training.parent}: {training.loaded.summary()}", file=sys.stderr)
        run = RunFolder.create(name, recipe.to_dict(), runs=runs, overwrite=overwrite, **facts)
        for file, values in recipe.beside().items():
            write_json(run.path / file, values)
    from lamella.train.fit import fit

    outcome = fit(
        training.task,
        training.samples,
        run,
        recipe.trainer,
        seed=recipe.seed,
        held_out=training.held_out,
        resume=resume,
        judge=judge,
    )
    return run, outcome


def prepare(recipe: Recipe, *, parent: str | None = None, runs: str | Path = "runs") -> Training:
    """Open the data, build the task, load the weights of ``parent`` (``RUN`` or ``RUN:CHECKPOINT``); writes nothing.

    Raises UserError for what cannot work: data that is not there, a parent of another task, a device that is missing.
    """
    accelerator(recipe.trainer)
    recipe = on_base(recipe, parent, runs)
    start = _parent(recipe, parent, runs) if parent else None
    from lamella.train.fit import seeded

    recipe = recipe.settled()
    samples = recipe.data.build(recipe.seed)
    held_out = recipe.validation.held_out(_HELD_OUT_SEED) if recipe.validation else None
    origin = check_data(recipe, samples, held_out)
    task = seeded(recipe.task.build, recipe.seed)
    task.check(samples[0])
    loaded = start.load(task) if start else None
    if start and loaded:
        check_loaded(recipe, str(start), loaded)
    return Training(recipe, task, samples, held_out, start, loaded, origin)


def _parent(recipe: Recipe, parent: str, runs: str | Path) -> Parent:
    run, checkpoint = open_checkpoint(parent, runs)
    source = f"run {run.name!r}"
    kind = task_kind(run.recipe(), source)
    if kind not in PARENTS.get(recipe.task.kind, ()):
        expect_task(kind, recipe.task.kind, source)
    return Parent(run, checkpoint)


def _recorded(run: RunFolder, resume: bool) -> str | None:
    """The parent that a run to be resumed began from, if it is still there."""
    record = run.parent() if resume else None
    if record is None or not is_run((run.path / record["path"]).resolve()):
        return None
    return f"{(run.path / record['path']).resolve()}:{record['checkpoint']}"


def _check_resume(recipe: Recipe, run: RunFolder, parent: str | None) -> str | None:
    """Refuse to go on with another recipe or parent; returns the parent to load if there is no checkpoint yet."""
    own = parse_recipe(run.recipe(), str(run.path))
    allowed = {f"trainer.{key}" for key in _MAY_CHANGE}
    changes = {key: pair for key, pair in differences([own.to_dict(), recipe.to_dict()]).items() if key not in allowed}
    if changes:
        told = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changes.items())
        raise UserError(
            f"run {run.name!r} cannot go on with another recipe: {told}. Take these back (the recipe "
            f"{run.path} is the run's own), or begin a new run with --from {run.name} --name NEW"
        )
    record = run.parent()
    _check_same_parent(run, record, parent)
    return None if record is None or run.checkpoints() else _unchanged(run, record)


def _check_same_parent(run: RunFolder, record: dict[str, Any] | None, parent: str | None) -> None:
    if parent is None:
        return
    name, checkpoint = split_checkpoint(parent)
    if record is None or Path(name).name != record["name"] or checkpoint not in (None, record["checkpoint"]):
        began = f"{record['name']}:{record['checkpoint']}" if record else "scratch"
        raise UserError(f"run {run.name!r} began from {began}, not from {parent}; leave --from out to go on with it")


def _unchanged(run: RunFolder, record: dict[str, Any]) -> str:
    """The parent of a run that never got to a checkpoint, if it is still what the run began from."""
    path = (run.path / record["path"]).resolve()
    if not is_run(path) or digest(RunFolder(path).checkpoint(record["checkpoint"])) != record["sha256"]:
        raise UserError(
            f"run {run.name!r} has no checkpoint yet, and its parent {record['name']}:{record['checkpoint']} has changed "
            "since; begin again with --overwrite"
        )
    return f"{path}:{record['checkpoint']}"
