"""Places of stacks in a volume: the box that may be drawn from, and the list of what was drawn.

A place names the first voxel of a stack of ``depth`` consecutive sections of ``size`` x ``size`` voxels. All numbers are voxels of
the place's own ``mip``. The list is a JSON file beside the archive, in the order of its samples; ``read_places`` takes it, or a CSV
file with the same columns, to draw the same stacks once more.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lamella.core.box import Box, parse_box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.files import write_json

COLUMNS = ("x", "y", "z", "size", "depth", "mip", "source")


class Place(Config):
    """Where one stack lies."""

    x: int
    y: int
    z: int
    size: int = Field(ge=1)
    depth: int = Field(ge=1)
    mip: int = Field(ge=0)
    source: str

    @property
    def box(self) -> Box:
        return Box((self.z, self.y, self.x), (self.z + self.depth, self.y + self.size, self.x + self.size))


def places_path(output: str | Path) -> Path:
    """Where the list of an archive's places is kept."""
    return Path(f"{output}.coords.json")


def write_places(path: Path, places: Sequence[Place], header: Mapping[str, Any]) -> None:
    """Write the list with ``header`` (settings, sources) above it."""
    write_json(path, {**header, "samples": [p.to_dict() for p in places]})


def read_places(path: str | Path) -> list[Place]:
    """Read a list from JSON or CSV; all places must be of one size, depth and mip."""
    rows = _rows(Path(path))
    places = [
        Place.load({k: v for k, v in row.items() if k in COLUMNS}, f"{path}, sample {i}") for i, row in enumerate(rows)
    ]
    if not places:
        raise UserError(f"{path} lists no samples; give a file that 'prep stacks' wrote")
    kinds = sorted({(p.size, p.depth, p.mip) for p in places})
    if len(kinds) > 1:
        raise UserError(f"{path} holds stacks of several (size, depth, mip): {kinds}; split it into one file for each")
    return places


def _rows(path: Path) -> list[Any]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; give the JSON or CSV file of coordinates") from None
    if path.suffix == ".csv":
        rows: Any = list(csv.DictReader(text.splitlines()))
    else:
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); give the JSON or CSV file of coordinates") from None
        rows = values.get("samples") if isinstance(values, dict) else values
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(
            f"{path} holds no list of samples with {', '.join(COLUMNS)}; give a file that 'prep stacks' wrote"
        )
    return rows


def split_z(box: Box, train: str | None, test: str | None, use_test: bool) -> tuple[int, int]:
    """The sections to draw from, first and one past the last, of ``box`` (z, y, x).

    By default the last fifth of the sections is for testing. Ranges that share a section are refused, since a test on sections
    that were trained on proves nothing.
    """
    low, high = box.start[0], box.stop[0]
    border = high - round((high - low) / 5)
    ranges = {
        "train": _range(train, box, "--z-train") or (low, border),
        "test": _range(test, box, "--z-test") or (border, high),
    }
    chosen, other = ("test", "train") if use_test else ("train", "test")
    a, b = ranges[chosen], ranges[other]
    if (train or test) and not (chosen == "train" and test is None) and max(a[0], b[0]) < min(a[1], b[1]):
        raise UserError(
            f"z ranges for training, {_text(ranges['train'])}, and for testing, {_text(ranges['test'])}, share sections; "
            "give --z-train and --z-test that do not"
        )
    return a


def _range(text: str | None, box: Box, flag: str) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        found = parse_box(text, Box(box.start[:1], box.stop[:1]))
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    return found.start[0], found.stop[0]


def _text(ends: tuple[int, int]) -> str:
    return f"{ends[0]}:{ends[1]}"
