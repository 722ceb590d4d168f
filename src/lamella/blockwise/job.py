"""What is done to each block, and how a job is told from another."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lamella.blockwise.blocks import Block, Cover
from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.volume import Volume


@runtime_checkable
class Job(Protocol):
    """Reads, computes and writes one block; the three run in different threads, for several blocks at once.

    Doing a block twice must leave the same voxels as doing it once. A job travels to workers by pickle, and a ledger knows it
    by its class and fields if it is a dataclass, or by what its method ``identity() -> Mapping`` returns if it has one.
    """

    def read(self, block: Block) -> Any: ...

    def compute(self, block: Block, data: Any) -> Any: ...

    def write(self, block: Block, result: Any) -> None: ...


def identity(job: Job, blocks: Sequence[Block]) -> dict[str, Any]:
    """Plain values that are equal for two runs of the same job over the same blocks, and only then."""
    return {"job": _job(job), "blocks": _blocks(blocks)}


def _job(job: Job) -> Any:
    own = getattr(job, "identity", None)
    values = _plain(own(), "identity()") if callable(own) else _plain(job, type(job).__name__)
    return {"class": type(job).__qualname__, **values}


def _blocks(blocks: Sequence[Block]) -> dict[str, Any]:
    if isinstance(blocks, Cover):
        return {f.name: _plain(getattr(blocks, f.name), f.name) for f in dataclasses.fields(blocks)}
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(f"{block.write} {block.read}\n".encode())
    return {"count": len(blocks), "sha256": digest.hexdigest()}


def _plain(value: Any, where: str) -> Any:  # noqa: C901 - one line per kind of value
    """``value`` as JSON can hold it. Volumes count by path, box and dtype, arrays by their bytes."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case Path() | Box() | np.dtype():
            return str(value)
        case Enum():
            return value.name
        case Config():
            return value.to_dict()
        case Mapping():
            return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
        case list() | tuple():
            return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        case np.ndarray():
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
        case Volume():
            return {"path": value.path, "box": str(value.box), "dtype": str(value.dtype)}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a ledger cannot compare; give the job an identity() method"
    )
