"""Points with classes, as a table: which image, where in it, of which class.

```
image,y,x,class            image,z,y,x,class
a1,12,300,0                stack,3,12,300,1
```

A CSV file has a line for each point. ``image`` is the name of an image without its ending. Then come the axes in the order that all
of lamella keeps, z (where images have sections) before y before x, in voxels of the whole image from 0: voxel 3 has its centre at 3. Classes
are whole numbers from 0. What made the file is told beside it, in ``NAME.json``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError
from lamella.core.files import write_text

_COLUMNS = {"yx": ["image", "y", "x", "class"], "zyx": ["image", "z", "y", "x", "class"]}


@dataclass(frozen=True)
class PointTable:
    """Points in the order of the file: names of images, places (n, 3) in z y x, and classes (n). ``has_z``: the file names z."""

    images: tuple[str, ...]
    places: NDArray[np.float64]
    classes: NDArray[np.int64]
    has_z: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def taken(self, indices: Sequence[int] | NDArray[np.intp]) -> PointTable:
        """Some of the points."""
        chosen = [int(i) for i in indices]
        return PointTable(tuple(self.images[i] for i in chosen), self.places[chosen], self.classes[chosen], self.has_z)

    def first(self, number: int) -> NDArray[np.intp]:
        """The first ``number`` points, as many of each class as of another but for one, where there are as many."""
        if number > len(self):
            raise UserError(
                f"{number} points are asked for, there are {len(self)}; draw more with `lamella prep points`"
            )
        rank = np.empty(len(self), np.int64)
        for k in np.unique(self.classes):
            here = np.flatnonzero(self.classes == k)
            rank[here] = np.arange(len(here))
        return np.sort(np.lexsort((self.classes, rank))[:number])

    def of(self, image: str) -> NDArray[np.intp]:
        """Which points lie in an image."""
        return np.flatnonzero([name == image for name in self.images])


def write_points(path: str | Path, table: PointTable) -> None:
    """Write the points as CSV, in one step."""
    places = table.places if table.has_z else table.places[:, 1:]
    rows = [
        ",".join([_quoted(image), *(f"{v:.6g}" for v in place), str(k)])
        for image, place, k in zip(table.images, places, table.classes.tolist(), strict=True)
    ]
    header = ",".join(_COLUMNS["zyx" if table.has_z else "yx"])
    write_text(path, "\n".join([header, *rows]) + "\n")


def read_points(path: str | Path) -> PointTable:
    """The points of a CSV file; raises UserError, with the line's number, for what is none."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read points from {path}: {error}; give a CSV file that `lamella prep points` wrote"
        ) from None
    header = [word.strip().lower() for word in rows[0]] if rows else []
    if header not in _COLUMNS.values():
        raise UserError(
            f"{path} has the columns {','.join(header) or 'of no name'}; points need image,y,x,class or image,z,y,x,class, in this order"
        )
    lines = [(number, row) for number, row in enumerate(rows[1:], 2) if row]
    if not lines:
        raise UserError(f"{path} holds no points; draw some with `lamella prep points`")
    parsed = [_parsed(row, len(header), f"{path}, line {number}") for number, row in lines]
    images, places, classes = zip(*parsed, strict=True)
    return PointTable(images, np.array(places, np.float64), np.array(classes, np.int64), "z" in header)


def check_known(table: PointTable, names: Iterable[str], path: str | Path) -> None:
    """Refuse points of images that are none of ``names``."""
    there = list(names)
    unknown = sorted(set(table.images) - set(there))
    if unknown:
        raise UserError(
            f"{path} has points in {', '.join(unknown[:5])}, which the sources do not have; their images are {', '.join(there[:5])}"
        )


def check_inside(table: PointTable, shapes: Mapping[str, tuple[int, int, int]], path: str | Path) -> None:
    """Refuse points of images that are not in ``shapes`` (z, y, x by name), and points outside of them."""
    check_known(table, shapes, path)
    sizes = np.array([shapes[name] for name in table.images], np.float64).reshape(-1, 3)
    out = np.flatnonzero(((table.places < -0.5) | (table.places >= sizes - 0.5)).any(1))
    if len(out):
        point, size = table.places[out[0]], tuple(int(n) for n in sizes[out[0]])
        raise UserError(
            f"{path}: {len(out)} of {len(table)} points lie outside their image; the first, {_told(point)} (z y x), is not in "
            f"{table.images[out[0]]} of {size}{_hint(table, sizes)}"
        )


def need_classes(table: PointTable, path: str | Path) -> None:
    """Refuse points of one class only, from which nothing can be told apart."""
    found = np.unique(table.classes)
    if len(found) < 2:
        raise UserError(
            f"all {len(table)} points of {path} are of class {found[0]}; two classes are needed to tell them apart"
        )


def _parsed(row: list[str], width: int, where: str) -> tuple[str, list[float], int]:
    if len(row) != width:
        raise UserError(f"{where} has {len(row)} columns, {width} are needed")
    try:
        place, number = [float(word) for word in row[1:-1]], int(row[-1])
    except ValueError:
        raise UserError(f"{where}: {','.join(row[1:])} must be numbers, the class a whole one from 0") from None
    if not np.isfinite(place).all() or number < 0:
        raise UserError(f"{where}: {','.join(row[1:])} must be places in voxels, and a class from 0")
    return row[0].strip(), [0.0] * (3 - len(place)) + place, number


def _hint(table: PointTable, sizes: NDArray[np.float64]) -> str:
    """Whether the axes seem to be in another order."""
    turned = table.places[:, [0, 2, 1]] if not table.has_z else table.places[:, ::-1]
    if ((turned >= -0.5) & (turned < sizes - 0.5)).all():
        return "; all are inside if the order of the axes is turned round, so give them as z, y, x"
    return "; are these the right images, at the right mip?"


def _told(place: NDArray[Any]) -> str:
    return " ".join(f"{v:g}" for v in place)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
