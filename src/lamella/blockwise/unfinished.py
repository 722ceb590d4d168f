"""What is kept beside an output while it is being made, so that a part is never taken for the whole.

A verb that fills an output block by block begins with a *plan*: plain values that decide what the output will hold. The plan and
the ledgers lie in a hidden folder beside the output (``.NAME.unfinished``; for an output in a bucket, in the user's cache) and
go when the output is finished. So:

| beside the output | the output | meaning | the same command again |
|---|---|---|---|
| nothing | nothing | not begun | begins |
| a plan | part of it | killed on the way | goes on; refuses if the plan differs |
| nothing | all of it | finished | refuses, or replaces it with ``--overwrite`` |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamella.blockwise.ledger import differences
from lamella.core.errors import UserError
from lamella.core.files import write_json


class Unfinished:
    """The plan and ledgers of an output that is being made. Begin with :meth:`begin`, end with :meth:`finish`."""

    def __init__(self, folder: Path, plan: Mapping[str, Any], created: bool) -> None:
        self.folder, self.plan, self.created = folder, plan, created

    @classmethod
    def begin(cls, output: str | Path, plan: Mapping[str, Any], *, exists: bool, overwrite: bool = False) -> Unfinished:
        """Begin to make ``output`` (a path or URL), or go on with a part of it that the same ``plan`` began.

        ``exists`` says whether something is at ``output``. A UserError if that is a finished output, or a part begun by
        another plan, unless ``overwrite`` is set. An interrupted command that had ``--overwrite`` goes on too.
        """
        plan = json.loads(json.dumps(plan))
        folder = folder_beside(output)
        stored = _stored_plan(folder)
        if stored and stored["created"] and not exists:  # the part itself was removed
            stored = None
        if stored is None:  # what a kill left in :meth:`finish`
            shutil.rmtree(folder, ignore_errors=True)
        changed = differences(stored["plan"], plan) if stored else []
        if stored and not changed:
            return cls(folder, plan, stored["created"])
        if not overwrite and stored and stored["created"]:
            raise UserError(
                f"output {output} is a part that was begun with other settings ({'; '.join(changed)}); "
                "repeat those to finish it, or start anew with --overwrite"
            )
        if not overwrite and exists:
            raise UserError(f"output {output} exists already; choose another name, or replace it with --overwrite")
        shutil.rmtree(folder, ignore_errors=True)
        begun = cls(folder, plan, created=False)
        begun._store()
        return begun

    @contextlib.contextmanager
    def creating(self) -> Iterator[None]:
        """Create the empty output, with all its metadata, in this block; until it is through, a rerun creates it anew."""
        try:
            yield
        except Exception:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.created = True
        self._store()

    def ledger(self, name: str) -> Path:
        """Where the ledger of one stage lies."""
        return self.folder / f"{name}.ledger"

    def finish(self) -> None:
        """The output is whole: remove the plan first, then the rest, so that a kill in between leaves a finished output."""
        (self.folder / "plan.json").unlink()
        shutil.rmtree(self.folder)

    def _store(self) -> None:
        write_json(self.folder / "plan.json", {"plan": self.plan, "created": self.created})


def folder_beside(output: str | Path) -> Path:
    """The hidden folder of an output: beside a local one, in the user's cache for a URL."""
    if "://" not in str(output):
        path = Path(output)
        return path.with_name(f".{path.name}.unfinished")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lamella" / f"{hashlib.sha256(str(output).encode()).hexdigest()[:20]}.unfinished"


def _stored_plan(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        return plan
    return None
