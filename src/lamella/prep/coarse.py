"""Measure where each section of a volume lies, over any distance and angle: see ``lamella.ops.register`` for one pair.

Each section is laid on the one before it and on the one before that. Of these *links* those count on which enough of the section's
blocks agree. A tree of links then joins all sections to the anchor:

```
0 ── 1 ── 2    lost    4 ── 5      between neighbours where they are sure,
          └────────────┘           over a lost or bad section where they are not
```

so that nothing hangs on a section that fits nothing. Where no link is sure, a section stands as its neighbour does.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from lamella.blockwise import Executor, Unfinished
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.io import describe, open_volume
from lamella.io.coarse import Coarse, Link, Section, fingerprint
from lamella.ops.affine import Matrix, apart, at_scale, hull, shifted, union
from lamella.ops.register import halved, register
from lamella.prep.coarse_settings import CoarseSettings
from lamella.prep.rows import measure_rows

_SIDE = 1024  # px of the longer side of a section as it is registered; larger ones are halved
_LONG = 512  # px that sections have at the mip that is chosen where none is asked for
_MOST = 2**28  # px of a section that is read whole
_LEAST = 0.05  # share of a section that holds data; below it, the section is lost
_BACK = 16  # sections looked back to for one that holds data
_APART = 0.05  # of a section's side: how far going by the section before may lead from the direct way, before one is held to be wrong
_ABOUT = (
    "matrix (2 x 3) leads from (y, x, 1) in the output to (y, x) in the section, voxels of mip 0, centres on whole numbers; "
    "lengths in voxels of mip 0; confidence, agree: share of blocks that agree on the transform"
)
_NUMBERS = 9  # of a link: section, matrix, agree, residual


def measure_coarse(
    source: str,
    out: str | Path,
    settings: CoarseSettings | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Coarse:
    """Find one transform for each section of ``source`` and write them to ``out`` (JSON).

    Raises UserError for a volume that is no stack of sections, a mip that lacks sections or whose sections are too large to be read
    whole, and an anchor that does not exist.
    """
    settings = settings or CoarseSettings()
    mip = _chosen_mip(source, settings)
    volume, finest = (open_volume(source, mip=m, dataset=settings.dataset) for m in (mip, 0))
    _check(volume, finest)
    _wanted(settings, volume.box)
    sections = range(volume.box.start[0], volume.box.stop[0])
    plan = {"source": source, "box": str(volume.box), "mip": mip, "settings": settings.to_dict()}
    begun = Unfinished.begin(out, plan, exists=Path(out).exists(), overwrite=overwrite)
    rows = measure_rows(
        sections, Links(volume, settings), 1 + _NUMBERS * settings.reach,
        begun=begun, label="laying sections on each other", executor=executor or Executor(), dtype="float64",
    )[:]  # fmt: skip
    factor = np.divide(volume.meta.voxel_size[-2:], finest.meta.voxel_size[-2:])
    found = _told(rows, sections, factor)
    anchor = _anchor(_wanted(settings, volume.box), found)
    plane = Box(finest.box.start[1:], finest.box.stop[1:])
    placed, joints = join(found, anchor, plane, settings.sure)
    whole = union(hull(np.linalg.inv(np.array([*s.matrix, [0, 0, 1]])), plane) for s in placed)
    coarse = Coarse(
        kind="coarse alignment",
        about=_ABOUT,
        source=source,
        dataset=settings.dataset,
        box=str(finest.box),
        voxel_size=list(finest.meta.voxel_size),
        mip=mip,
        fingerprint=fingerprint(volume, anchor),
        settings=settings.to_dict(),
        anchor=anchor,
        joints=joints,
        output=str(Box((sections.start, *whole.start), (sections.stop, *whole.stop))),
        sections=placed,
        provenance=provenance(source=source),
    )
    write_json(out, coarse.to_dict())
    begun.finish()
    return coarse


@dataclass(frozen=True)
class Links:
    """Rows for sections: the share that holds data, and for each earlier section that it was laid on: its number, the matrix in voxels
    of the volume, the share of blocks that agree, and how far those are off. NaN where there is none."""

    volume: Volume
    settings: CoarseSettings

    def __call__(self, items: Sequence[int]) -> NDArray[np.float64]:
        return np.stack([self._row(z) for z in items])

    def _row(self, z: int) -> NDArray[np.float64]:
        row = np.full(1 + _NUMBERS * self.settings.reach, np.nan)
        section = self._section(z)
        row[0] = share = _share(section)
        if share < _LEAST:
            return row
        before = ((p, self._section(p)) for p in range(z - 1, max(self.volume.box.start[0], z - _BACK) - 1, -1))
        held = ((p, data) for p, data in before if _share(data) >= _LEAST)
        for n, (p, data) in enumerate(itertools.islice(held, self.settings.reach)):
            row[1 + _NUMBERS * n : 1 + _NUMBERS * (n + 1)] = self._link(p, data, section)
        return row

    def _link(self, p: int, target: NDArray[Any], source: NDArray[Any]) -> NDArray[np.float64]:
        levels = 0
        while max(target.shape) > _SIDE:
            target, source, levels = halved(target), halved(source), levels + 1
        found = register(target, source, self.settings.model, self.settings.turn)
        corner = np.array(self.volume.box.start[1:])
        matrix = shifted(corner) @ at_scale(found.matrix, 0.5**levels) @ shifted(-corner)
        return np.array([p, *matrix[:2].ravel(), found.agree, found.residual * 2**levels])

    def _section(self, z: int) -> NDArray[Any]:
        box = self.volume.box
        return self.volume.read(Box((z, *box.start[1:]), (z + 1, *box.stop[1:])))[0]


@dataclass(frozen=True)
class Found:
    """What was measured of a section: the share that holds data, and its links."""

    z: int
    present: float
    links: tuple[Link, ...]

    @property
    def lost(self) -> bool:
        return self.present < _LEAST


def join(found: Sequence[Found], anchor: int, plane: Box, sure: float) -> tuple[list[Section], list[int]]:
    """The transform of each section, by way of the surest links from the anchor; and where no sure link leads on.

    A link that is not sure counts as no motion. ``plane`` is a section (y, x), mip 0.
    """
    first = found[0].z
    triangles, doubted = _triangles(found, plane, sure)
    trusted = {
        (f.z, link.to): link for f in found for link in f.links if link.agree >= sure and (f.z, link.to) not in doubted
    }
    costs = {(f.z, f.z - 1): 100.0 for f in found[1:]}
    costs |= {(z, p): 1 + (z - p) - link.agree for (z, p), link in trusted.items()}
    ends = np.array(list(costs)) - first
    graph = coo_array((list(costs.values()), (ends[:, 0], ends[:, 1])), shape=(len(found), len(found)))
    tree = minimum_spanning_tree(graph.tocsr())
    order, parents = breadth_first_order(tree, anchor - first, directed=False)
    matrices = {anchor: np.eye(3)}
    joined: dict[int, tuple[int | None, float]] = {anchor: (None, 1.0)}
    for n in order[1:]:
        z, p = int(n) + first, int(parents[n]) + first
        step, agree = _step(trusted, z, p)
        matrices[z], joined[z] = step @ matrices[p], (p, agree)
    linked = {z for pair in trusted for z in pair}
    states = {f.z: "lost" if f.lost else "placed" if f.z in linked or f.z == anchor else "unsure" for f in found}
    joints = sorted(z for z, (p, agree) in joined.items() if p is not None and agree == 0 and states[z] == "placed")
    sections = [
        Section(
            z=f.z,
            state="anchor" if f.z == anchor else states[f.z],
            matrix=matrices[f.z][:2].tolist(),
            confidence=joined[f.z][1],
            after=joined[f.z][0],
            triangle=triangles.get(f.z),
            links=list(f.links),
        )
        for f in found
    ]
    return sections, joints


def _step(trusted: Mapping[tuple[int, int], Link], z: int, p: int) -> tuple[Matrix, float]:
    """From the places of ``p`` to those of ``z``, and how many blocks agree; no motion where no link is trusted."""
    if (z, p) in trusted:
        return _square(trusted[z, p]), trusted[z, p].agree
    if (p, z) in trusted:
        return np.linalg.inv(_square(trusted[p, z])), trusted[p, z].agree
    return np.eye(3), 0.0


def _triangles(found: Sequence[Found], plane: Box, sure: float) -> tuple[dict[int, float], set[tuple[int, int]]]:
    """How far two sure links by way of a section lead from the direct one; where that is too far, the least sure of the three."""
    links = {(f.z, link.to): link for f in found for link in f.links if link.agree >= sure}
    triangles, doubted = {}, set()
    for (z, far), direct in links.items():
        for near in range(far + 1, z):
            if (z, near) in links and (near, far) in links:
                way = _square(links[z, near]) @ _square(links[near, far])
                triangles[z] = apart(way, _square(direct), plane)
                if triangles[z] > _APART * max(plane.shape):
                    doubted.add(min(((z, far), (z, near), (near, far)), key=lambda pair: links[pair].agree))
    return triangles, doubted


def _square(link: Link) -> Matrix:
    return np.array([*link.matrix, [0, 0, 1]])


def _told(rows: NDArray[np.float64], sections: Sequence[int], factor: NDArray[np.floating]) -> list[Found]:
    """The rows with their links brought to mip 0."""
    found = []
    for z, row in zip(sections, rows, strict=True):
        links = []
        for p, *numbers in row[1:].reshape(-1, _NUMBERS):
            if np.isnan(p):
                continue
            matrix = at_scale(np.array([numbers[:3], numbers[3:6], [0, 0, 1]]), 1 / factor)
            off = None if np.isnan(numbers[7]) else float(numbers[7] * factor.max())
            links.append(Link(to=int(p), matrix=matrix[:2].tolist(), agree=numbers[6], residual=off))
        found.append(Found(z, float(row[0]), tuple(links)))
    return found


def _wanted(settings: CoarseSettings, box: Box) -> int:
    """The section that is asked for as anchor."""
    first, last = box.start[0], box.stop[0] - 1
    asked = settings.anchor
    wanted = first if asked == "first" else (first + last) // 2 if asked == "middle" else int(asked)
    if not first <= wanted <= last:
        raise UserError(f"anchor {asked} does not exist; choose a section from {first} to {last}, first or middle")
    return wanted


def _anchor(wanted: int, found: Sequence[Found]) -> int:
    """The section nearest to the one wanted that holds data."""
    there = [f.z for f in found if not f.lost]
    if not there:
        raise UserError(f"none of {len(found)} sections holds data at this mip; check that 0 means missing")
    return min(there, key=lambda z: abs(z - wanted))


def _chosen_mip(source: str, settings: CoarseSettings) -> int:
    if settings.mip is not None:
        return settings.mip
    open_volume(source, dataset=settings.dataset)  # the path's own mistakes are told first
    datasets = describe(source).datasets
    mips = datasets.get(settings.dataset or "") or next(iter(datasets.values()))
    long = [n for n, mip in enumerate(mips) if max(mip.box.shape[-2:]) >= _LONG]
    return max(long, default=0)


def _check(volume: Volume, finest: Volume) -> None:
    if volume.meta.axes != ("z", "y", "x"):
        raise UserError(
            f"{volume.path} has axes {''.join(volume.meta.axes)}; laying sections on each other needs a stack of grey sections with "
            "axes zyx, so convert one channel or sample of it first"
        )
    if volume.box.shape[0] < 2:
        raise UserError(f"{volume.path} holds {volume.box.shape[0]} section; give a volume of 2 or more")
    if (volume.box.start[0], volume.box.stop[0]) != (finest.box.start[0], finest.box.stop[0]):
        raise UserError(
            f"this mip of {volume.path} holds sections {volume.box.start[0]} to {volume.box.stop[0] - 1}, mip 0 "
            f"{finest.box.start[0]} to {finest.box.stop[0] - 1}; choose a --mip that keeps all sections"
        )
    if int(np.prod(volume.box.shape[1:], dtype=object)) > _MOST:
        raise UserError(
            f"sections of {volume.path} have {volume.box.shape[1]} x {volume.box.shape[2]} pixels at this mip, too many to be read "
            "whole; choose a coarser --mip, or make mips with: lamella convert SOURCE OUT --mips 5"
        )


def _share(section: NDArray[Any]) -> float:
    """How much of a section holds data."""
    return float(np.count_nonzero(section)) / section.size
