"""Stages of a preprocessing: each leaves one file in the folder, with what was measured, of what, how, and by which version.

A stage that was done with the same settings on the same data is not done again; other settings are refused, or replace it with
``overwrite``, and then the stages that build on it are removed with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.blockwise import Unfinished
from lamella.blockwise.ledger import differences
from lamella.blockwise.unfinished import folder_beside
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.io.preprocessing import STAGES, Preprocessing, root_of, stage_file
from lamella.prep.archive import origin
from lamella.prep.frame_settings import Selection

_MADE = {"masks": ("masks", "weights"), "tiles": ("tiles.h5", "tiles.csv")}  # what stages leave besides their file


@dataclass(frozen=True)
class Begun:
    """A stage to be done: what was measured before it, where it keeps its work, and where its measures go."""

    folder: Path
    stage: str
    before: Preprocessing
    part: Unfinished

    def finish(self, measured: Any) -> None:
        """Write the stage's file; what it was made from goes when it is there."""
        record = {"plan": self.part.plan, "measured": measured, "provenance": origin()}
        write_json(stage_file(self.folder, self.stage), record)
        self.part.finish()

    def discard(self) -> None:
        """Remove what was made so far: it is of no use, and the work would not be repeated."""
        _remove_from(self.folder, self.stage)
        shutil.rmtree(self.part.folder)


@contextmanager
def begin(
    stage: str, source: str, out: str | Path, settings: Config, select: Selection, *, overwrite: bool = False
) -> Iterator[Begun | None]:
    """Begin ``stage`` in the folder ``out``, or go on with it; None if it is done already.

    A mistake of the user's leaves nothing behind if nothing was measured yet.
    """
    folder = Path(out)
    before = measured_before(folder, stage)
    plan = _plain(
        {
            "source": root_of(source),
            "select": select.to_dict(),
            "settings": settings.to_dict(),
            "before": _digest(folder, stage),
        }
    )
    done = _done(folder, stage)
    file = stage_file(folder, stage)
    if done is not None and not (changed := differences(done["plan"], plan)):
        shutil.rmtree(folder_beside(file), ignore_errors=True)  # what a kill left after the stage's file was written
        yield None
        return
    if done is not None and not overwrite:
        raise UserError(
            f"{file} was measured otherwise ({'; '.join(changed)}); choose another folder, or measure "
            "again with --overwrite"
        )
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    begun = done is not None or folder_beside(file).exists()
    part = Unfinished.begin(
        file, plan, exists=begun, overwrite=overwrite or done is None
    )  # half a stage may be begun anew
    try:
        if not part.created:
            with part.creating():
                _remove_from(folder, stage)
        yield Begun(folder, stage, before, part)
    except UserError:
        if not any(part.folder.glob("*.ledger")):
            shutil.rmtree(part.folder, ignore_errors=True)
            if not existed and not any(folder.iterdir()):
                folder.rmdir()
        raise


def measured_before(folder: Path, stage: str) -> Preprocessing:
    """What the folder holds of the stages that ``stage`` builds on."""
    there = any(stage_file(folder, s).is_file() for s in STAGES)
    return Preprocessing.load(folder).before(stage) if there else Preprocessing()


def _done(folder: Path, stage: str) -> Mapping[str, Any] | None:
    file = stage_file(folder, stage)
    return dict(json.loads(file.read_text())) if file.is_file() else None


def _remove_from(folder: Path, stage: str) -> None:
    for later in STAGES[STAGES.index(stage) :]:
        stage_file(folder, later).unlink(missing_ok=True)
        for name in _MADE.get(later, ()):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _digest(folder: Path, stage: str) -> str:
    """A short name for all that was measured before ``stage``."""
    earlier = [_done(folder, s) for s in STAGES[: STAGES.index(stage)]]
    told = [(d["plan"], d["measured"]) if d else None for d in earlier]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
