"""Names of frames: what a file's name says of channel, slice, time and position, by a pattern that people can read.

``im_c{c}_z{z}_t{t}_p{p}`` is a name with four numbers. What stands in braces:

| | |
|---|---|
| ``{c}`` ``{z}`` ``{t}`` ``{p}`` | number of the channel, slice, time point, position; 0 where a pattern leaves it out |
| ``{channel}`` | name of the channel; without ``{c}``, channels are numbered as their names first appear |
| ``{position}`` | name of the position, numbered likewise without ``{p}`` |
| ``{}`` | anything, not kept |
| ``{sample}``, any other word | a column of its own in the table |

A pattern without an ending takes every image file. Files are gone through in natural order (2 before 10).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.core.errors import UserError
from lamella.io.folders import natural

PATTERNS = ("im_c{c}_z{z}_t{t}_p{p}", "img_{channel}_t{t}_p{p}_z{z}")
ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
POSITION_NAME = "position_name"

_NUMBERS = ("c", "z", "t", "p")


@dataclass(frozen=True)
class Frame:
    """One image file and its place; ``extra`` holds the table's further columns, in their order."""

    t: int
    c: int
    z: int
    p: int
    channel_name: str
    file_name: str
    dir_name: str = "."
    extra: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"channel {self.c}, slice {self.z}, time {self.t}, position {self.p}"


@dataclass(frozen=True)
class Named:
    """What names told: the frames, the names of further columns, and the files that no pattern fits."""

    frames: tuple[Frame, ...]
    columns: tuple[str, ...]
    unplaced: tuple[str, ...]


def image_names(folder: Path) -> list[str]:
    """The image files of a folder in natural order, hidden ones left out."""
    names = (p.name for p in folder.iterdir() if not p.name.startswith("."))
    return sorted((n for n in names if Path(n).suffix.lower() in ENDINGS), key=natural)


def place_names(names: Sequence[str], pattern: str | None = None) -> Named:
    """Frames of ``names``, in natural order, by ``pattern`` or by the first of ``PATTERNS`` that fits the first file it can.

    >>> place_names(["im_c001_z006_t000_p003.png", "notes.png"]).unplaced
    ('notes.png',)
    """
    for tried in PATTERNS if pattern is None else (pattern,):
        named = _placed(names, tried)
        if named.frames:
            return named
    return Named((), (), tuple(names))


def _placed(names: Sequence[str], pattern: str) -> Named:
    expression = compile_pattern(pattern)
    found = [(name, match) for name in names if (match := expression.fullmatch(name))]
    placed = {name for name, _ in found}
    columns = tuple(k for k in expression.groupindex if k not in (*_NUMBERS, "channel", "position"))
    if "position" in expression.groupindex:
        columns = (POSITION_NAME, *columns)
    channels: dict[str, int] = {}
    positions: dict[str, int] = {}
    frames = []
    for name, match in found:
        told = match.groupdict()
        channel, position = told.get("channel"), told.get("position")
        c = _number(told.get("c"), channel, channels)
        p = _number(told.get("p"), position, positions)
        extra = tuple((position or "") if k == POSITION_NAME else told[k] for k in columns)
        frames.append(Frame(int(told.get("t") or 0), c, int(told.get("z") or 0), p, channel or "", name, extra=extra))
    return Named(tuple(frames), columns, tuple(n for n in names if n not in placed))


def _number(digits: str | None, name: str | None, seen: dict[str, int]) -> int:
    """The number that a name gives, else the place of the word among those seen."""
    if digits is not None:
        return int(digits)
    return 0 if name is None else seen.setdefault(name, len(seen))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern.

    >>> compile_pattern("{channel}_pos{p}_z{z}.tif").fullmatch("DAPI_2_pos1_z07.tif").groupdict()
    {'channel': 'DAPI_2', 'p': '1', 'z': '07'}
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    words = [w for w in parts[1::2] if w]
    bad = [w for w in words if not w.isidentifier() or words.count(w) > 1]
    if bad or not words or re.search(r"[{}]", "".join(parts[::2])):
        raise UserError(
            f"pattern {pattern!r} must name each part once in braces, as in {{channel}}_pos{{p}}_z{{z}}_t{{t}}.tif"
        )
    text = "".join(re.escape(p) if i % 2 == 0 else _group(p) for i, p in enumerate(parts))
    if Path(pattern).suffix.lower() not in ENDINGS:
        text += r"\.(?:" + "|".join(e[1:] for e in ENDINGS) + ")"
    return re.compile(text, re.IGNORECASE)


def _group(word: str) -> str:
    if not word:
        return ".*?"
    return rf"(?P<{word}>\d+)" if word in _NUMBERS else rf"(?P<{word}>.+?)"


def file_name(t: int, c: int, z: int, p: int, suffix: str) -> str:
    """The name that lamella gives to a frame."""
    return f"im_c{c:03d}_z{z:03d}_t{t:03d}_p{p:03d}{suffix}"
