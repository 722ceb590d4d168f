"""Train a task into a run folder.

``fit`` knows nothing of what is learnt. Batches, chance, phases and learning rates of step ``k`` are functions of the run's seed
and ``k`` (see ``batches`` and ``learner``), and everything else that a step depends on is in the checkpoint. A run that was
stopped or killed at any moment and resumed therefore ends with the weights of an uninterrupted one, to the bit on a CPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.core.rng import stream
from lamella.runs import RunFolder
from lamella.train.batches import HeldOut, Samples
from lamella.train.checkpoints import read_checkpoint
from lamella.train.config import TrainerConfig, accelerator, is_first_process, limit_memory
from lamella.train.journal import Journal
from lamella.train.learner import Learner
from lamella.train.limits import Limits, keeping_handlers
from lamella.train.steps import Judge, Steps, WholeFiles
from lamella.train.task import Task
from lamella.train.validation import Validation

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How a training ended: at which step, why, and whether all its steps are done."""

    step: int
    reason: str

    @property
    def interrupted(self) -> bool:
        return self.reason == "interrupted"


def fit(
    task: Task,
    samples: Samples,
    run: RunFolder,
    config: TrainerConfig,
    *,
    seed: int = 0,
    held_out: HeldOut | None = None,
    resume: bool = False,
    judge: Judge | None = None,
) -> Outcome:
    """Train ``task.net`` on ``samples`` and keep everything in ``run``.

    With ``resume`` the run goes on from its last checkpoint (from the beginning if it was stopped before the first). Ctrl-C and
    SIGTERM end the step, write a checkpoint and return; a second Ctrl-C raises KeyboardInterrupt at once.

    ``judge`` is told every row of metrics, and what it answers ends the run.

    Raises UserError for a device that is not there and phases that do not fit the net, Diverged for a loss that is no longer finite.
    """
    kind, devices = accelerator(config)
    limit_memory(config, kind, devices)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    task.net.train()
    if config.compile:
        task.compile()
    with ExitStack() as stack:
        journal = meter = None
        writes = is_first_process(config)
        if writes:
            stack.enter_context(run.locked())
        start = _begin(run, resume, writes)
        if start >= config.steps:
            return Outcome(start, "finished")
        if writes:
            stack.enter_context(_recording_failure(run))
            num_devices = devices if isinstance(devices, int) else len(devices)
            journal = stack.enter_context(Journal(run, start))
            total = (config.steps - start) * config.batch_size * num_devices
            meter = stack.enter_context(progress(f"train {run.name}", total, "samples"))
        validation = Validation(held_out, config.batch_size, config.num_workers) if held_out is not None else None
        steps = Steps(run, config, Limits(config), validation, journal, meter, judge)
        trainer = _trainer(run, config, steps, kind, devices)
        _fit(trainer, Learner(task, samples, config, seed), run.checkpoint_path("last") if start else None)
        outcome = Outcome(trainer.global_step, steps.reason or "finished")
        if journal:
            _conclude(run, outcome, steps.limits)
    return outcome


def seeded(build: Callable[[], T], seed: int) -> T:
    """What ``build`` makes when PyTorch's generator starts from ``seed``; for the first weights of a net."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "weights").integers(2**62)))
        return build()


def _begin(run: RunFolder, resume: bool, writes: bool) -> int:
    """The step to start from; notes a resume in the run's record."""
    has_checkpoint = "last" in run.checkpoints()
    if has_checkpoint and not resume:
        raise UserError(f"run {run.name!r} has checkpoints already; go on with it by --resume or choose another --name")
    start = int(read_checkpoint(run.checkpoint("last"))["global_step"]) if has_checkpoint else 0
    if resume and start and writes:
        run.record(resumed=[*run.provenance().get("resumed", []), provenance(step=start)])
    return start


def _trainer(run: RunFolder, config: TrainerConfig, steps: Steps, kind: str, devices: list[int] | int) -> Trainer:
    several = not isinstance(devices, int) and len(devices) > 1
    alone = [] if several else [LightningEnvironment()]  # else it would take part in any cluster job it finds itself in
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return Trainer(
        accelerator=kind,
        devices=devices,
        strategy="ddp_find_unused_parameters_true" if several else "auto",  # phases leave parameters without gradients
        precision="32-true" if config.precision == "32" else config.precision,
        max_steps=config.steps,
        max_epochs=-1,
        gradient_clip_val=config.clip,
        callbacks=[steps],
        plugins=[WholeFiles(), *alone],
        default_root_dir=run.path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _fit(trainer: Trainer, learner: Learner, checkpoint: Path | None) -> None:
    with warnings.catch_warnings(), keeping_handlers():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*module\\(s\\) in eval mode.*")  # frozen parts of a net
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning's use of PyTorch
        try:
            trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # Lightning's answer to a second Ctrl-C
            raise KeyboardInterrupt from None


@contextmanager
def _recording_failure(run: RunFolder) -> Iterator[None]:
    run.record(state="running", reason=None)
    try:
        yield
    except Exception as error:
        run.record(state="failed", reason=str(error))
        raise


def _conclude(run: RunFolder, outcome: Outcome, limits: Limits) -> None:
    finished = outcome.reason == "finished"
    run.record(
        state="finished" if finished else "stopped",
        reason=outcome.reason,
        step=outcome.step,
        seconds=round(limits.seconds, 1),
        cpu_seconds=round(limits.cpu_seconds, 1),
    )
