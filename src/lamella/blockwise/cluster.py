"""Blocks on a Dask cluster: this machine's processes, a scheduler that runs already, or jobs of SLURM and LSF.

Dask ships blocks (boxes), never arrays: a worker reads, computes and writes its block and answers that it is done. The job goes
once to every worker, also to those that start later, as a plugin. A bounded number of futures is under way; each is let go as
it finishes. A worker that dies is replaced by the cluster and its blocks are given to others; the scheduler does so
``retries`` times before it calls a block a killer (see ``runner`` for how the innocent are told apart).

The only module that imports Dask; it is itself imported when a cluster is asked for. Needs ``pip install 'lamella[cluster]'``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import dask
import dask.utils
import distributed
from distributed import KilledWorker, WorkerPlugin, as_completed, get_worker
from pydantic import AfterValidator, Field

from lamella.blockwise.blocks import Block
from lamella.blockwise.failure import Failure
from lamella.blockwise.job import Job
from lamella.blockwise.memory import return_freed_memory
from lamella.core.config import Config, read_yaml
from lamella.core.errors import UserError
from lamella.core.progress import progress

_CONNECT_S = 30.0  # to reach a scheduler, and for a first worker to show up where none has to be queued for
_CLOSE_S = 30.0  # for workers to end in order
_FLYING_PER_THREAD = 4  # blocks under way per worker thread: enough that none waits for the next block
_EXIT_TIMED_OUT = 75
# Ctrl-C reaches all processes of a terminal; the workers leave it to this one, which stops them in order
_LEAVE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_ANY_PORT = ":0"  # for Dask's status page, so that several clusters can run on one machine


def _size(text: str) -> str:
    """Refuse what Dask does not read as an amount of memory."""
    try:
        dask.utils.parse_bytes(text)
    except ValueError:
        raise ValueError("write a number and its unit, as '4GB'") from None
    return text


Memory = Annotated[str, AfterValidator(_size)]


class LocalCluster(Config):
    """Processes of this machine, one block each; a process that dies is started again."""

    kind: Literal["local"] = "local"
    workers: int = Field(2, ge=1, description="processes")
    memory: Memory | None = Field(None, description="what one process may use, as '4GB', before it is stopped")

    def build(self) -> Any:
        memory = {"memory_limit": self.memory} if self.memory else {}
        options = {"n_workers": self.workers, "threads_per_worker": 1, "silence_logs": logging.CRITICAL, **memory}
        return distributed.LocalCluster(**options, dashboard_address=_ANY_PORT, preload=_LEAVE_CTRL_C)


class Scheduler(Config):
    """A scheduler that runs already, started by the user or by a deployer (Kubernetes, a cloud, `dask scheduler`)."""

    kind: Literal["scheduler"] = "scheduler"
    address: str = Field(description="as tcp://HOST:PORT")

    def build(self) -> str:
        return self.address


class _Queue(Config):
    """Jobs of a batch system. Each job starts ``processes`` workers, which do one block each at a time."""

    cores: int = Field(1, ge=1, description="cores per job")
    memory: Memory = Field(description="memory per job, as '16GB'")
    walltime_hours: float = Field(4.0, gt=0, description="what a job may take; jobs that end are replaced")
    jobs: int = Field(1, ge=1, description="jobs to hold at once")
    processes: int | None = Field(None, ge=1, description="workers per job; one per core if not given")
    queue: str | None = Field(None, description="queue or partition")
    account: str | None = Field(None, description="account or project that is charged")
    directives: tuple[str, ...] = Field((), description="further lines for the batch system, as '--gres=gpu:1'")
    prologue: tuple[str, ...] = Field((), description="shell lines before the worker starts, as 'module load cuda'")
    python: str | None = Field(None, description="interpreter on the nodes; this one if not given")
    interface: str | None = Field(None, description="network interface of the nodes, as 'ib0'")
    log_folder: str | None = Field(None, description="where the batch system writes what jobs print")
    scratch: str | None = Field(None, description="folder on a node for temporary files")

    def options(self) -> dict[str, Any]:
        """What dask-jobqueue takes, the same for all batch systems."""
        return {
            "cores": self.cores,
            "memory": self.memory,
            "processes": self.processes or self.cores,
            "queue": self.queue,
            "job_extra_directives": list(self.directives),
            "job_script_prologue": list(self.prologue),
            "python": self.python or sys.executable,
            "interface": self.interface,
            "log_directory": self.log_folder,
            "local_directory": self.scratch,
            "scheduler_options": {"dashboard_address": _ANY_PORT},
        }

    def clock(self) -> str:
        """The wall time as ``HH:MM``."""
        minutes = round(self.walltime_hours * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"


class Slurm(_Queue):
    """Jobs of SLURM."""

    kind: Literal["slurm"]

    def build(self) -> Any:
        return _jobqueue().SLURMCluster(walltime=f"{self.clock()}:00", account=self.account, **self.options())


class Lsf(_Queue):
    """Jobs of LSF."""

    kind: Literal["lsf"]

    def build(self) -> Any:
        return _jobqueue().LSFCluster(walltime=self.clock(), project=self.account, **self.options())


def _jobqueue() -> ModuleType:
    """dask-jobqueue, without the handler it sets on import, which turns Ctrl-C into a silent exit with code 0."""
    handler = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
    return dask_jobqueue


class ClusterFile(Config):
    """What a cluster's YAML file holds."""

    cluster: Annotated[LocalCluster | Scheduler | Slurm | Lsf, Field(discriminator="kind")]


def parse_cluster(text: str) -> LocalCluster | Scheduler | Slurm | Lsf:
    """The cluster that ``--dask`` names: ``local:N``, ``tcp://HOST:PORT``, or a YAML file with ``kind`` and its fields."""
    if text.startswith("local:"):
        count = text.removeprefix("local:")
        if not count.isdigit() or int(count) < 1:
            raise UserError(f"--dask {text} asks for {count!r} processes; write a number, as in local:4")
        return LocalCluster(workers=int(count))
    if "://" in text:
        return Scheduler(address=text)
    if not Path(text).is_file():
        raise UserError(
            f"--dask {text} is neither local:N, nor tcp://HOST:PORT, nor a YAML file that describes a cluster"
        )
    return ClusterFile.load({"cluster": read_yaml(text)}, source=text).cluster


@contextmanager
def connected(where: str, retries: int) -> Iterator[Any]:
    """A client of the cluster that ``where`` names, which has a worker; started if need be, and stopped at the end."""
    config = parse_cluster(where)
    allowed = dask.config.set({"distributed.scheduler.allowed-failures": retries})
    with allowed, _built(config) as cluster, _connect(cluster, where) as client:
        _wait_for_a_worker(client, where, isinstance(config, _Queue))
        yield client


@contextmanager
def _built(config: LocalCluster | Scheduler | Slurm | Lsf) -> Iterator[Any]:
    """The cluster, with its jobs asked for and kept up; closed at the end if it was started here."""
    cluster: Any = config.build()
    if isinstance(config, Scheduler):
        yield cluster
        return
    try:
        if isinstance(config, _Queue):
            cluster.scale(jobs=config.jobs)
        with Keeper(cluster):
            yield cluster
    finally:
        close(cluster)


def close(cluster: Any, within_s: float = _CLOSE_S) -> None:
    """Close a cluster, and end those of its processes that do not do so by themselves.

    Dask waits without limit for a worker that died, or hangs, while it was starting.
    """
    try:
        cluster.close(timeout=within_s)
    except TimeoutError:
        for child in multiprocessing.active_children():
            if child.name.startswith("Dask Worker"):
                child.kill()


class Keeper:
    """Replaces workers that do not come back, while its context lasts.

    Dask starts a worker again that dies, but not one that dies before it said it had started, and not a job that the batch
    system ended: a run could be left with no workers at all. What was there and is gone for ``grace_s`` is given up and
    started anew. What never was there still waits in the batch system's queue.
    """

    def __init__(self, cluster: Any, grace_s: float = 15.0, every_s: float = 2.0) -> None:
        self._cluster, self._grace_s, self._every_s = cluster, grace_s, every_s
        self._wanted = len(cluster.worker_spec)
        self._seen: dict[Any, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="keeper")

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            lost = self._lost()
            for name in lost:
                self._cluster.worker_spec.pop(name, None)
                self._seen.pop(name)
            # first those that are lost are closed, and a moment later, when their names are free, others take their place
            if lost or len(self._cluster.worker_spec) < self._wanted:
                self._scale(len(self._cluster.worker_spec) if lost else self._wanted)

    def _lost(self) -> list[Any]:
        """Names of workers, or of jobs that hold some, that were there and are gone."""
        present = [str(w["name"]) for w in self._cluster.scheduler_info["workers"].values()]
        now = time.monotonic()
        for name in self._cluster.worker_spec:
            if any(p == str(name) or p.startswith(f"{name}-") for p in present):
                self._seen[name] = now
        return [name for name, at in self._seen.items() if now - at > self._grace_s]

    def _scale(self, count: int) -> None:
        if hasattr(self._cluster, "job_script"):
            self._cluster.scale(jobs=count)
        else:
            self._cluster.scale(count)


def _connect(cluster: Any, where: str) -> Any:
    try:
        return distributed.Client(cluster, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--dask {where}: no scheduler answers there ({error}); start one or check the address"
        ) from None


def _wait_for_a_worker(client: Any, where: str, queued: bool) -> None:
    with progress(f"waiting for a first worker of {where}", 1, "workers") as meter:
        start = time.monotonic()
        while not client.nthreads():
            if not queued and time.monotonic() - start > _CONNECT_S:
                raise UserError(f"--dask {where}: the scheduler has no workers after {_CONNECT_S:.0f} s; start some")
            time.sleep(0.1)
        meter.advance()


class DaskPool:
    """Blocks under way on a cluster. Use as a context manager."""

    def __init__(self, client: Any, job: Job, blocks: Sequence[Block], timeout_s: float | None) -> None:
        self._client, self._blocks = client, blocks
        self._name = f"lamella-{uuid.uuid4().hex[:12]}"
        self._job, self._timeout_s = job, timeout_s
        self._flying: dict[str, tuple[int, Any]] = {}
        self._finished = as_completed([], loop=client.loop)
        self._attempts = 0
        self._capacity, self._asked = 0, float("-inf")

    def __enter__(self) -> DaskPool:
        self._client.register_plugin(_Carrier(self._job, self._timeout_s), name=self._name)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.cancel([future for _, future in self._flying.values()])
        self._flying.clear()
        self._client.unregister_worker_plugin(self._name)

    def capacity(self) -> int:
        """How many blocks to keep under way: some per thread that the cluster has at the time."""
        if time.monotonic() - self._asked > 2.0:
            threads = sum(self._client.nthreads().values())
            self._capacity, self._asked = max(_FLYING_PER_THREAD * threads, 16), time.monotonic()
        # handing blocks over in groups costs the scheduler much less than one by one
        flying = len(self._flying)
        return self._capacity if flying <= self._capacity // 2 else flying

    def submit(self, indices: Sequence[int]) -> None:
        if not indices:
            return
        self._attempts += 1
        keys = [f"{self._name}-{index}-{self._attempts}" for index in indices]
        blocks = [self._blocks[index] for index in indices]
        futures = self._client.map(_work, [self._name] * len(blocks), blocks, key=keys, pure=False)
        self._flying.update({str(f.key): (i, f) for i, f in zip(indices, futures, strict=True)})
        self._finished.update(futures)

    def collect(self) -> list[tuple[int, Failure | None]]:
        """Wait for at least one block; its index, and its failure if it has one."""
        results = []
        for future in self._finished.next_batch(block=True):
            index, _ = self._flying.pop(str(future.key))
            results.append((index, _outcome(future)))
            future.release()
        return results


def _outcome(future: Any) -> Failure | None:
    if future.status in ("finished", "lost"):  # lost: it was done, and then the worker that held its answer died
        return None
    if future.status != "error":
        raise UserError("the cluster's scheduler is gone; what is done is kept: run the same command again")
    error = future.exception()
    if isinstance(error, _Failed):
        return error.failure
    if isinstance(error, KilledWorker):
        return Failure("its worker died every time (out of memory, past its time-out, or crashed)", killed=True)
    return Failure.of(error)


class _Failed(Exception):
    """Carries a failure from a worker; the original exception may not survive the journey."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class _Carrier(WorkerPlugin):
    """Brings the job to every worker."""

    def __init__(self, job: Job, timeout_s: float | None) -> None:
        self.job, self.timeout_s = job, timeout_s


def _work(name: str, block: Block) -> None:
    """Do one block; runs on a worker."""
    return_freed_memory()
    carrier: Any = get_worker().plugins[name]
    watch = threading.Timer(carrier.timeout_s, _stop_worker, [block, carrier.timeout_s]) if carrier.timeout_s else None
    if watch:
        watch.daemon = True
        watch.start()
    try:
        job = carrier.job
        job.write(block, job.compute(block, job.read(block)))
    except Exception as error:
        raise _Failed(Failure.of(error)) from None
    finally:
        if watch:
            watch.cancel()


def _stop_worker(block: Block, timeout_s: float) -> None:
    """Python cannot stop a thread, so a block past its time-out takes its worker along; the cluster starts another."""
    print(f"block {block.index} ({block.write}) is past its time-out of {timeout_s:g} s", file=sys.stderr, flush=True)
    os._exit(_EXIT_TIMED_OUT)
