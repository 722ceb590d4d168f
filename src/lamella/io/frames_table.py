"""The table of a folder of frames, ``frames_meta.csv``: one row for each image file, with its channel, slice, time and position.

Columns are ``channel_idx, slice_idx, time_idx, pos_idx, channel_name, file_name, dir_name`` and any others, which are kept as text.
A file lies in the table's own folder, or in ``dir_name`` if it is not there (from the table's folder, if relative). Frames that a
table does not list do not exist: channels may be imaged at some slices only.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from lamella.core.errors import UserError
from lamella.core.files import write_text
from lamella.core.progress import progress
from lamella.io.folders import form_of
from lamella.io.frames_names import Frame, image_names, place_names

META = "frames_meta.csv"
COLUMNS = ("channel_idx", "slice_idx", "time_idx", "pos_idx", "channel_name", "file_name", "dir_name")

_NEEDED = ("channel_idx", "slice_idx", "time_idx", "pos_idx", "file_name")
_SHOWN = 5  # names in a message; the count tells of the rest

Form = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class FrameTable:
    """The frames of ``folder``, no two of one place; ``columns`` are the names of what ``Frame.extra`` holds."""

    folder: Path
    frames: tuple[Frame, ...]
    columns: tuple[str, ...] = ()

    @cached_property
    def positions(self) -> dict[int, tuple[Frame, ...]]:
        """The frames of each position, in the order of their numbers."""
        found: dict[int, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            found[frame.p].append(frame)
        return {p: tuple(found[p]) for p in sorted(found)}

    @cached_property
    def channels(self) -> dict[int, str]:
        """Names of the channels by their numbers, from the lowest to the highest; a number without frames has no name."""
        names = {f.c: f.channel_name for f in self.frames}
        return {c: names.get(c, "") for c in range(min(names), max(names) + 1)}

    def file(self, frame: Frame) -> Path:
        """Where the frame's image lies."""
        here = self.folder / frame.file_name
        return here if frame.dir_name in ("", ".") or here.exists() else self.folder / frame.dir_name / frame.file_name

    def write(self, path: Path) -> None:
        """Store the table in one step."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow((*COLUMNS, *self.columns))
        for f in self.frames:
            writer.writerow((f.c, f.z, f.t, f.p, f.channel_name, f.file_name, f.dir_name, *f.extra))
        write_text(path, buffer.getvalue())


def position_name(number: int) -> str:
    """The data set's name of a position."""
    return f"p{number:03d}"


def scan(folder: Path, pattern: str | None = None) -> tuple[FrameTable, tuple[str, ...]]:
    """The table that the names of the files in ``folder`` make, and the image files that cannot be placed."""
    return _scan(folder, pattern, folder.stat().st_mtime_ns)


@lru_cache(maxsize=8)  # opening a hundred positions asks for one table a hundred times
def _scan(folder: Path, pattern: str | None, changed: int) -> tuple[FrameTable, tuple[str, ...]]:
    named = place_names(image_names(folder), pattern)
    _refuse_doubles(named.frames, str(folder))
    return FrameTable(folder, named.frames, named.columns), named.unplaced


def read_table(path: Path) -> FrameTable:
    """A table that exists. Columns that are missing, cells that are no numbers and two files of one place are errors."""
    stat = path.stat()
    return _read_table(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read_table(path: Path, changed: int, size: int) -> FrameTable:
    with open(path, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        header = [c for c in reader.fieldnames or () if c]
        missing = [c for c in _NEEDED if c not in header]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
        extra = tuple(c for c in header if c not in COLUMNS)
        frames = tuple(_frame(row, extra, f"{path}, line {reader.line_num}") for row in reader)
    if not frames:
        raise UserError(f"{path} lists no frames; make it anew with: lamella prep meta {path.parent} --overwrite")
    _refuse_doubles(frames, str(path))
    names: dict[int, str] = {}
    for f in frames:
        if names.setdefault(f.c, f.channel_name) != f.channel_name:
            raise UserError(
                f"{path} names channel {f.c} both {names[f.c]!r} and {f.channel_name!r}; a channel has one name: mend the table"
            )
    return FrameTable(path.parent, frames, extra)


def is_table(path: Path) -> bool:
    """Whether a CSV file has the columns that a table needs."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as handle:
        return set(_NEEDED) <= set(next(csv.reader(handle), ()))


def _frame(row: Mapping[str, str | None], extra: Sequence[str], where: str) -> Frame:
    try:
        c, z, t, p = (int(float(row[k] or "")) for k in _NEEDED[:4])
    except ValueError:
        raise UserError(
            f"{where}: {', '.join(f'{k} {row[k]!r}' for k in _NEEDED[:4])} must be whole numbers; mend the table"
        ) from None
    if min(c, z, t, p) < 0 or not row["file_name"]:
        raise UserError(f"{where}: a frame needs a file_name and numbers of at least 0; mend the table")
    name, folder = row.get("channel_name") or "", row.get("dir_name") or "."
    return Frame(t, c, z, p, name, row["file_name"], folder, tuple(row[k] or "" for k in extra))


def _refuse_doubles(frames: Iterable[Frame], where: str) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for f in frames:
        first = seen.setdefault((f.t, f.c, f.z, f.p), f.file_name)
        if first != f.file_name:
            raise UserError(f"{where}: {first} and {f.file_name} are both {f.place}; remove one, or give a --pattern")


def check_files(table: FrameTable, frames: Sequence[Frame]) -> None:
    """Refuse a table that names files that are not there."""
    gone = [f.file_name for f in frames if not table.file(f).is_file()]
    if gone:
        raise UserError(
            f"{table.folder / META} names files that are not there ({len(gone)}): {listed(gone)}; "
            f"put them back, or make the table anew with: lamella prep meta {table.folder} --overwrite"
        )


def common_form(table: FrameTable, frames: Sequence[Frame], label: str | None = None) -> Form:
    """Size (y, x) and type that all ``frames`` share, from their headers; the error names those that differ.

    ``label`` shows the progress.
    """
    forms: list[Form] = []
    if label is None:
        forms = [form_of(table.file(f)) for f in frames]
    else:
        with progress(label, len(frames), "files") as meter:
            for f in frames:
                forms.append(form_of(table.file(f)))
                meter.advance()
    usual, _ = Counter(forms).most_common(1)[0]
    odd = [f"{f.file_name} ({_form(form)})" for f, form in zip(frames, forms, strict=True) if form != usual]
    if odd:
        raise UserError(
            f"frames of one position must have one size and type; most in {table.folder} are {_form(usual)}, "
            f"but not {listed(odd)}; pad, crop or convert them, or take them out of {META}"
        )
    if len(usual[0]) != 2:
        raise UserError(
            f"{table.file(frames[0])} is a colour image ({_form(usual)}); a frame holds one channel: split the colours"
        )
    return usual


def _form(form: Form) -> str:
    shape, dtype = form
    return f"{' by '.join(map(str, shape))} {dtype}"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def with_folder(table: FrameTable, out: Path) -> FrameTable:
    """The table as it is to be written to ``out``, which may lie elsewhere than the frames."""
    if out.parent.resolve() == table.folder.resolve():
        return table
    folder = str(table.folder.resolve())
    return FrameTable(out.parent, tuple(replace(f, dir_name=folder) for f in table.frames), table.columns)
