"""Where blocks run: threads of this process, or a cluster that is started, and connected to, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

from pydantic import Field, field_validator

from lamella.blockwise.blocks import Block
from lamella.blockwise.failure import Failure
from lamella.blockwise.job import Job
from lamella.blockwise.threads import ThreadPool
from lamella.core.config import Config
from lamella.core.errors import UserError


class Executor(Config):
    """Where blocks run and how failures are met."""

    dask: str | None = Field(
        None, description="local:N, tcp://HOST:PORT or a YAML file of a cluster; here if not given"
    )
    workers: int = Field(2, ge=1, description="blocks computed at once in this process; memory holds two blocks more")
    retries: int = Field(2, ge=0, description="further attempts at a block that failed")
    timeout_s: float | None = Field(
        3600.0,
        gt=0,
        description="seconds a block may take on a cluster before its worker is stopped and it is tried again",
    )

    @field_validator("dask")
    @classmethod
    def _find_cluster(cls, where: str | None) -> str | None:
        """Refuse what names no cluster now, before an output is begun; Dask is imported only where one is named."""
        if where is not None:
            _cluster_module(where).parse_cluster(where)
        return where


@runtime_checkable
class Pool(Protocol):
    """Something that carries out blocks, several at once, and tells which are finished."""

    def capacity(self) -> int: ...

    def submit(self, indices: Sequence[int]) -> None: ...

    def collect(self) -> list[tuple[int, Failure | None]]: ...


class Crew:
    """Who does the blocks of one run, or of several that follow each other. Use as a context manager.

    A cluster is started when the first job comes that has something to do, and stays until the end.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._stack = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._client = None
        self._stack.close()

    @contextmanager
    def pool(self, job: Job, blocks: Sequence[Block]) -> Iterator[Pool]:
        """A pool for one job."""
        if self.executor.dask is None:
            pool = ThreadPool(job, blocks, self.executor.workers)
            try:
                yield pool
            finally:
                pool.close()
        else:
            cluster = _cluster_module(self.executor.dask)
            if self._client is None:
                connection = cluster.connected(self.executor.dask, self.executor.retries)
                self._client = self._stack.enter_context(connection)
            with cluster.DaskPool(self._client, job, blocks, self.executor.timeout_s) as dask_pool:
                yield dask_pool


def _cluster_module(where: str) -> Any:
    try:
        from lamella.blockwise import cluster
    except ModuleNotFoundError as error:
        raise UserError(f"--dask {where} needs {error.name}; pip install 'lamella[cluster]'") from None
    return cluster
