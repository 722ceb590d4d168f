"""What a batch takes and how long: a few steps of the real training, in a process of its own that may run out of memory."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lamella.recipe.tune.trials import QUIET

_WARM, _TIMED = 2, 4  # steps; the first are slower
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Probe:
    """What ``size`` samples in a batch take. ``peak`` and ``base`` are bytes of the process (of the GPU if it trains on one) at its
    highest and before the first step; a batch that does not fit has none of the figures."""

    size: int
    fits: bool
    base: int = 0
    peak: int = 0
    seconds: float = 0.0
    """Of a step, wall time."""
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.size / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Samples per CPU second."""
        return self.size / self.cpu_seconds


def probe(values: Mapping[str, Any], size: int) -> Probe:
    """Train a few steps with batches of ``size`` in another process; one that the system kills for its memory does not fit."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, dict(values), size).result()
        except BrokenProcessPool:
            return Probe(size, fits=False)


def free_memory() -> int:
    """Bytes that this process may still take: what the system has to spare, or less where a control group limits it."""
    return int(min([_spare(), *(_group_spare(folder) for folder in _groups())]))


def _measure(values: dict[str, Any], size: int) -> Probe:
    import torch

    from lamella.recipe.find import parse_recipe
    from lamella.recipe.train import prepare
    from lamella.recipe.tune.folder import changed
    from lamella.runs import RunFolder
    from lamella.train.fit import fit

    settings = {
        **QUIET,
        "trainer.batch_size": size,
        "trainer.steps": _WARM + _TIMED,
        "trainer.log_every": 1,
        "trainer.keep_every": None,
        "trainer.checkpoint_every": 10**9,
        "trainer.early_stopping": None,
        "validation": None,
    }
    training = prepare(parse_recipe(changed(values, settings), "the recipe"))
    clock = _Clock()
    base = _resident()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create("probe", {}, runs=folder)
        try:
            fit(training.task, training.samples, run, training.recipe.trainer, judge=clock)
        except torch.OutOfMemoryError:
            return Probe(size, fits=False)
    on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_reserved() > 0
    peak = torch.cuda.max_memory_reserved() if on_gpu else _peak()
    return Probe(size, True, 0 if on_gpu else base, peak, clock.wall / _TIMED, clock.cpu / _TIMED)


class _Clock:
    """Wall and CPU time from the end of the last warm step to the end of the last step."""

    wall = cpu = 0.0

    def __call__(self, step: int, row: Mapping[str, float | str]) -> None:
        if step == _WARM:
            self._start = time.perf_counter(), time.process_time()
        if step == _WARM + _TIMED:
            self.wall = time.perf_counter() - self._start[0]
            self.cpu = time.process_time() - self._start[1]


def _resident() -> int:
    return _status("VmRSS") or _peak()


def _peak() -> int:
    """The most memory that this process ever had. What ``getrusage`` tells begins, on Linux, with that of the parent."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _status(key: str) -> int:
    """A figure of /proc/self/status in bytes, 0 where there is none."""
    return _kilobytes(Path("/proc/self/status"), key)


def _kilobytes(file: Path, key: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _spare() -> int:
    if found := _kilobytes(Path("/proc/meminfo"), "MemAvailable"):
        return found
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _groups() -> list[Path]:
    """The folders of the control groups that this process belongs to, from its own up (versions 2 and 1)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = _CGROUPS if not kinds else _CGROUPS / "memory"
        own = root / path.lstrip("/")
        found += [folder for folder in (own, *own.parents) if folder == root or root in folder.parents]
    return found


def _group_spare(folder: Path) -> float:
    """What a control group may still take: limit less use, without the files that it only caches."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = (folder / limit).read_text().strip()
            now = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return float("inf") if most == "max" else float(int(most) - now + int(stat.get(cache, 0)))
    return float("inf")
