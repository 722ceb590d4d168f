"""How to train: everything of a training that is not the task and not the data."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.train.average import AverageConfig
from lamella.train.monitor import Best, EarlyStopping
from lamella.train.optimiser import Adam, OptimiserConfig
from lamella.train.schedule import Constant, ScheduleConfig

_DEVICE = re.compile(r"auto|cpu|mps|cuda|cuda:\d+(,\d+)*")


class TrainerConfig(Config):
    """Length, optimiser, hardware, and how often to look."""

    steps: int = Field(10_000, ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int = Field(1, ge=1)
    """Samples per step on each device."""
    learning_rate: float = Field(1e-3, gt=0)
    schedule: ScheduleConfig = Constant()
    optimiser: OptimiserConfig = Adam()
    clip: float | None = Field(None, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    average: AverageConfig | None = None
    """Average the weights over the last steps; validation, best checkpoints and whatever uses the run see the average."""

    device: str = "auto"
    """``auto`` (a GPU if there is one), ``cpu``, ``mps``, ``cuda``, ``cuda:1``, or several: ``cuda:0,1``.

    Several GPUs each take ``batch_size`` samples and average their gradients (distributed data parallel)."""
    gpu_memory: float | None = Field(None, gt=0, le=1)
    """Share of a GPU's memory that the training may take, where others use the GPU too; None: all that is free."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    compile: bool = False
    """Compile the net with ``torch.compile``: slower to start, then faster."""
    num_workers: int = Field(0, ge=0)
    """Processes that read and prepare samples; 0 reads in the training process."""
    threads: int | None = Field(None, ge=1)
    """Threads of PyTorch on the CPU; None leaves its own choice."""

    log_every: int = Field(20, ge=1)
    validate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints; a killed run loses at most this many."""
    keep_every: int | None = Field(None, ge=1)
    """Keep a numbered checkpoint every so many steps beside the last and the best."""
    panels_every: int = Field(500, ge=0)
    """Steps between pictures; 0 for none."""

    graph: bool = True
    """Draw the net's graph for TensorBoard when the run begins."""

    best: tuple[Best, ...] = (Best(),)
    """Which best checkpoints to keep."""
    early_stopping: EarlyStopping | None = None
    max_seconds: float | None = Field(None, gt=0)
    """Stop after this wall time."""
    max_cpu_seconds: float | None = Field(None, gt=0)
    """Stop after this much CPU time of the training process, summed over its threads."""

    @model_validator(mode="after")
    def _check(self) -> TrainerConfig:
        if not _DEVICE.fullmatch(self.device):
            raise ValueError(f"device {self.device!r} is not auto, cpu, mps, cuda, cuda:N or cuda:N,M")
        if self.max_cpu_seconds is not None and self.num_workers:
            raise ValueError("max_cpu_seconds counts the training process only; set num_workers=0 with it")
        if self.precision == "16-mixed" and self.device == "cpu":
            raise ValueError("precision 16-mixed needs a GPU; use bf16-mixed or 32 on the CPU")
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"keep_every={self.keep_every} must be a multiple of checkpoint_every={self.checkpoint_every}"
            )
        return self


def accelerator(config: TrainerConfig) -> tuple[str, list[int] | int]:
    """Lightning's ``accelerator`` and ``devices`` for a config; refuses a device that this machine lacks."""
    import torch

    kind, _, numbers = config.device.partition(":")
    num_gpus = torch.cuda.device_count()
    if kind == "auto":
        kind = "cuda" if num_gpus else "mps" if torch.backends.mps.is_available() else "cpu"
    if config.precision == "16-mixed" and kind == "cpu":
        raise UserError("precision 16-mixed needs a GPU and this machine has none; use trainer.precision=bf16-mixed")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps is not available here; use trainer.device=cpu")
    if kind != "cuda" and config.gpu_memory is not None:
        raise UserError(f"gpu_memory {config.gpu_memory} limits a GPU, and the device is {kind}; leave it out")
    if kind != "cuda":
        return kind, 1
    chosen = [int(n) for n in numbers.split(",")] if numbers else [0]
    if any(n >= num_gpus for n in chosen):
        there = f"GPUs 0 to {num_gpus - 1}" if num_gpus else "no GPU"
        raise UserError(f"device {config.device!r} is not here: this machine has {there}; use trainer.device=cpu")
    return kind, chosen


def limit_memory(config: TrainerConfig, kind: str, devices: list[int] | int) -> None:
    """Keep the process within ``gpu_memory`` on each of its GPUs; beyond it PyTorch is out of memory, as on a smaller GPU."""
    import torch

    if config.gpu_memory is not None and kind == "cuda" and isinstance(devices, list):
        for number in devices:
            torch.cuda.set_per_process_memory_fraction(config.gpu_memory, number)


def device_of(name: str) -> str:
    """PyTorch's device for ``--device``: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``; refuses one that this machine lacks."""
    kind, devices = accelerator(TrainerConfig.load({"device": name}, "--device"))
    return f"cuda:{devices[0]}" if isinstance(devices, list) else kind


def is_first_process(config: TrainerConfig) -> bool:
    """Whether this process writes. With several GPUs each has a process, and all but the first only compute."""
    if "," not in config.device:
        return True
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))
