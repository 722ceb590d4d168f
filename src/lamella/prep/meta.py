"""The table of a folder of frames: built from the files' names, or checked where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.core.errors import UserError
from lamella.core.files import refuse_existing
from lamella.io.frames_names import PATTERNS, image_names
from lamella.io.frames_table import (
    META,
    FrameTable,
    check_files,
    common_form,
    listed,
    position_name,
    read_table,
    scan,
    with_folder,
)


@dataclass(frozen=True)
class Survey:
    """What is in a folder of frames: its table and where that lies, whether it was made now, and the files without a place."""

    table: FrameTable
    path: Path
    made: bool
    unplaced: tuple[str, ...]

    def gaps(self) -> list[str]:
        """One line for each channel that lacks frames where other channels have them."""
        lines = []
        everywhere = {(f.p, f.t, f.z) for f in self.table.frames}
        for c, name in self.table.channels.items():
            own = {(f.p, f.t, f.z) for f in self.table.frames if f.c == c}
            if own == everywhere:
                continue
            called = f"channel {c}" + (f" ({name})" if name else "")
            missing = sorted({p for p, _, _ in everywhere} - {p for p, _, _ in own})
            if missing:
                lines.append(f"{called} has no frames at {listed([position_name(p) for p in missing])}")
            if own and any((p, t, z) not in own for p, t, z in everywhere if p not in missing):
                slices = sorted({z for _, _, z in own})
                lines.append(f"{called} has {len(own)} of {len(everywhere)} frames, at slices {_ranges(slices)}")
        return lines


def survey_frames(
    folder: str | Path, pattern: str | None = None, *, out: str | Path | None = None, overwrite: bool = False
) -> Survey:
    """Make ``frames_meta.csv`` of ``folder`` from its files' names, or check the one that is there.

    ``pattern`` says how names are read (see ``lamella.io.frames_names``); ``out`` is where to write the table if not into the
    folder itself. A table that exists is checked and left as it is, unless ``overwrite``.

    Raises UserError for a folder without frames, two files of one place, frames of one position that differ in size or type, and a
    table that is damaged or names files that are not there; nothing is written then.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the frames")
    path = Path(out) if out is not None else folder / META
    if path.exists() and out is None and pattern is None and not overwrite:
        return _checked(path)
    refuse_existing(path, overwrite=overwrite)
    table, unplaced = scan(folder, pattern)
    if not table.frames:
        tried = repr(pattern) if pattern else " or ".join(PATTERNS)
        found = image_names(folder)
        raise UserError(
            f"no name of the {len(found)} image files in {folder} fits {tried}"
            + (f", for example {found[0]}" if found else "")
            + "; say how they are named, as --pattern '{channel}_pos{p}_z{z}_t{t}.tif'"
        )
    _check_forms(table)
    with_folder(table, path).write(path)
    return Survey(table, path, True, unplaced)


def _checked(path: Path) -> Survey:
    table = read_table(path)
    check_files(table, table.frames)
    _check_forms(table)
    known = {f.file_name for f in table.frames}
    return Survey(table, path, False, tuple(n for n in image_names(path.parent) if n not in known))


def _check_forms(table: FrameTable) -> None:
    for p, frames in table.positions.items():
        common_form(table, frames, label=f"reading headers of {position_name(p)}")


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in few words.

    >>> _ranges([0, 1, 2, 6])
    '0-2, 6'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
