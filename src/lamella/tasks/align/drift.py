"""How far the sections of an aligned volume have drifted: what their fields move over wide areas, and how that grows along z.

Errors of single matches add up from section to section. What is left in the fields when they are averaged over squares of ``CELL`` pixels
is too wide to be told from the tissue's own course, and no score against a neighbour shows it. It is measured here, in pixels:

    moved   root mean square length of the field
    slow    the same of its averages over squares
    step    the same of the change of these averages from the section before
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.progress import progress
from lamella.io.place import Place
from lamella.tasks.align.stages import Plane, Stored

CELL = 256  # pixels
_CELLS = 8  # that are read at once along each axis


@dataclass(frozen=True)
class Drift:
    """What the field of section ``z`` moves, in pixels (see above)."""

    z: int
    moved: float
    slow: float
    step: float


def measure_drift(fields: Stored, plane: Plane, sections: Sequence[int]) -> list[Drift]:
    """The drift of ``sections``, which follow each other; that of the first step is 0."""
    rows: list[Drift] = []
    before: NDArray[np.float64] | None = None
    with progress(f"measuring the drift of {len(sections)} sections", len(sections)) as meter:
        for z in sections:
            means, square = _averages(fields, plane, z)
            change = np.zeros_like(means) if before is None else means - before
            rows.append(Drift(z, float(np.sqrt(square)), _length(means), _length(change)))
            before = means
            meter.advance()
    return rows


def growth(rows: Sequence[Drift]) -> float:
    """Pixels by which ``slow`` grows from section to section, on the straight line nearest to it."""
    return float(np.polyfit([r.z for r in rows], [r.slow for r in rows], 1)[0]) if len(rows) > 1 else 0.0


def told(rows: Sequence[Drift]) -> str:
    """One line about the whole."""
    farthest = max(rows, key=lambda r: r.slow)
    steps = [r.step for r in rows[1:]]
    return (
        f"drift over {CELL} px and more: {rows[-1].slow:.2f} px at the last section, at most {farthest.slow:.2f} px (section {farthest.z}); "
        f"{np.median(steps) if steps else 0:.2f} px from section to section, growing by {growth(rows):.3f} px a section"
    )


def record(rows: Sequence[Drift]) -> dict[str, Any]:
    """Plain values, to be stored beside the volume."""
    return {"cell": CELL, "unit": "pixel", "growth": growth(rows), "sections": [asdict(row) for row in rows]}


def recorded(fields: str) -> list[Drift]:
    """What was stored beside the volume whose fields lie at ``fields``; nothing if that is not there."""
    folder, _, name = Place.parse(fields).url.rpartition("/")
    stem, ours, _ = name.rpartition(".fields.ome.zarr")
    found = Place.parse(folder or ".").read_json(f"{stem}.drift.json") if ours else None
    return [Drift(**row) for row in found["sections"]] if found else []


def _averages(fields: Stored, plane: Plane, z: int) -> tuple[NDArray[np.float64], float]:
    """The means (2, y, x) of the field over cells, and the mean square of its length, both in pixels."""
    cell = max(1, CELL // plane.step)
    whole = Box.of(plane.tiling.shape)
    counts = [-(-n // cell) for n in whole.shape]
    means, total = np.zeros((2, *counts)), 0.0
    for y in range(0, counts[0], _CELLS):
        for x in range(0, counts[1], _CELLS):
            box = Box((y * cell, x * cell), ((y + _CELLS) * cell, (x + _CELLS) * cell)).intersect(whole)
            field = fields.read(z, box).astype(np.float64) * plane.step
            total += float(np.square(field).sum())
            edges = [np.arange(0, n, cell) for n in box.shape]
            sums = np.add.reduceat(np.add.reduceat(field, edges[0], 1), edges[1], 2)
            sizes = np.outer(*(np.diff([*e, n]) for e, n in zip(edges, box.shape, strict=True)))
            means[:, y : y + len(edges[0]), x : x + len(edges[1])] = sums / sizes
    return means, total / whole.size


def _length(vectors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(vectors).sum(0).mean()))
