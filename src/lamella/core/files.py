"""Writing files so that a reader, or a resumed run, never meets half of one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lamella.core.errors import UserError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it is moved onto ``path`` if the block succeeds and removed otherwise.

    The temporary name keeps the suffix, so writers that look at it behave.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield beside
        with contextlib.suppress(IsADirectoryError), open(beside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` in one step."""
    with replacing(path) as beside:
        beside.write_text(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def refuse_existing(path: str | Path, *, overwrite: bool = False, flag: str = "--overwrite") -> None:
    """Raise a UserError if ``path`` is there and the user has not asked to replace it."""
    if not overwrite and Path(path).exists():
        raise UserError(f"output {path} exists already; choose another name, or replace it with {flag}")
