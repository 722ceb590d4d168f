"""A map of where an aligned volume does not fit, and the worst places in it; see ``lamella.ops.misfit`` for the figure.

Each section is compared with the nearest one before it that holds data, tile by tile. The map is a volume of bytes, 8 pixels of the image
coarser in y and x: 0 no data, otherwise 1 + 254 × misfit. What chance gives is measured on sections half a stack apart, one turned by 180°,
on a few tiles; the 95th percentile of that is the ``threshold`` above which a place counts as off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lamella.blockwise import Block, Executor, Unfinished, cover, run
from lamella.blockwise.blocks import Cover
from lamella.blockwise.unfinished import folder_beside
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_text
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text, finite
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.io.place import Place
from lamella.ops.misfit import STEP, Misfit, context, misfit
from lamella.tasks.align.misalignment_settings import MisalignmentSettings
from lamella.tasks.align.scores import tile_of

_LOOK_BACK = 4  # sections
_HELD = 0.25  # share of a tile that a neighbour holds
_KEPT = 8  # places of a tile
_NULLS = 16  # tiles that are compared with an unrelated section
_BINS = 255  # of the map's values but 0
_COLUMNS = ("y", "x", "misfit", "dy", "dx", "here", "best", "pixels", "previous")


@dataclass(frozen=True)
class Misalignment:
    """The map's path, what chance gives (95th percentile), a row for each section, and the worst places, the worst first."""

    path: str
    threshold: float | None
    pairs: list[dict[str, Any]]
    places: list[dict[str, Any]]

    @property
    def off(self) -> float:
        """Share of all places above the threshold."""
        known = [(p["off"], p["places"]) for p in self.pairs if p["places"]]
        return sum(off * n for off, n in known) / max(sum(n for _, n in known), 1)


def measure_misalignment(
    aligned: str,
    out: str,
    settings: MisalignmentSettings | None = None,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> Misalignment:
    """Search ``aligned`` (axes z y x) and write the map to ``out``; figures of sections and places go beside it as CSV.

    Raises UserError for a volume that is no stack of sections or of fewer than two.
    """
    settings = settings or MisalignmentSettings()
    stem_of(out)
    volume = open_volume(aligned, mip=settings.mip)
    _check(volume)
    plan = {"aligned": aligned, "box": str(volume.box), "settings": settings.to_dict()}
    place = Place.parse(out)
    work = Unfinished.begin(out, plan, exists=bool(place.local and place.local.exists()), overwrite=overwrite)
    if not work.created:
        with work.creating():
            _create(
                volume,
                out,
                provenance(aligned=aligned, settings=settings.to_dict(), figure="1 + 254 * misfit, 0 no data"),
            )
    blocks = _blocks(volume, settings)
    parts = work.folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    nulls = frozenset(int(n) for n in np.linspace(0, len(blocks) - 1, min(_NULLS, len(blocks))))
    job = FindMisfits(volume, open_volume(out, writable=True), settings, nulls, parts)
    run(job, blocks, label="looking for misalignment", ledger=work.ledger("parts"), executor=executor)
    found = _gather(volume, out, settings, [_load(_part(parts, b.index)) for b in blocks])
    for path, rows in zip(tables_beside(out), (found.pairs, found.places), strict=True):
        write_text(path, csv_text([finite(row) for row in rows]))
    work.finish()
    return found


def goes_on(out: str, overwrite: bool = False) -> bool:
    """Whether a map was begun at ``out`` and is not finished. Raises UserError if it is finished, unless it may be replaced, and for an
    address."""
    stem_of(out)
    if overwrite:
        return False
    path = str(Place.parse(out).local)
    begun = folder_beside(path).exists()
    if Path(path).exists() and not begun:
        raise UserError(f"{path} exists already; choose another name, or replace it with --overwrite")
    return begun


def tables_beside(out: str) -> tuple[Path, Path]:
    """Where the figures of pairs of sections and of the worst places are written."""
    stem = stem_of(out)
    return Path(f"{stem}.pairs.csv"), Path(f"{stem}.places.csv")


def stem_of(out: str) -> str:
    """The path of a map without its ending."""
    place = Place.parse(out)
    if place.local is None:
        raise UserError(f"output {out} is an address; tables and a page are written beside it, so give a local path")
    return str(place.local).removesuffix(".zarr").removesuffix(".ome")


@dataclass(frozen=True)
class FindMisfits:
    """The job: blocks (section, map's y and x) get their map; their figures and worst places go into ``parts``."""

    aligned: Volume
    out: Volume
    settings: MisalignmentSettings
    nulls: frozenset[int]
    parts: Path

    def identity(self) -> Mapping[str, Any]:
        return {"aligned": self.aligned.path, "settings": self.settings.to_dict()}

    def read(self, block: Block) -> None:
        """Nothing: which sections are needed shows as they are read."""

    def compute(self, block: Block, data: None) -> dict[str, Any]:
        z, tile = block.write.start[0], self._pixels(block)
        around = tile.grow(context(self.settings.reach, self.settings.window))
        here = tile_of(self.aligned, z, around)
        p, before = self._before(z, tile, around)
        found = self._misfit(here, before, around, tile)
        figures = np.array([np.nan if p is None else p, *(_mean(m) for m in (found.here, found.best))])
        result = {
            "z": np.array(z),
            "map": _bytes(found.value),
            "figures": figures,
            "places": self._worst(found, tile, p),
        }
        if block.index in self.nulls and (stranger := self._stranger(z, around)) is not None:
            value = self._misfit(here, stranger, around, tile).value
            result["null"] = np.bincount(_bytes(value).ravel(), minlength=_BINS + 1)
        return result

    def write(self, block: Block, result: dict[str, Any]) -> None:
        self.out.write(block.write.shift((0, *self._offset)), result["map"][None])
        counts = np.bincount(result["map"].ravel(), minlength=_BINS + 1)
        kept = {key: result[key] for key in ("z", "figures", "places", "null") if key in result}
        with replacing(_part(self.parts, block.index)) as beside:
            np.savez_compressed(beside, allow_pickle=False, counts=counts, **kept)

    @property
    def _offset(self) -> tuple[int, int]:
        """From the map's pixels as blocks count them, from the corner of the aligned volume, to those it is stored at."""
        start = self.out.box.start
        return start[1], start[2]

    def _pixels(self, block: Block) -> Box:
        corner = self.aligned.box.start[1:]
        start, stop = block.write.start[1:], block.write.stop[1:]
        return Box(tuple(STEP * n for n in start), tuple(STEP * n for n in stop)).shift(corner)

    def _before(self, z: int, tile: Box, around: Box) -> tuple[int | None, NDArray[Any]]:
        """The nearest section before that holds data here, and its pixels."""
        for p in range(z - 1, max(self.aligned.box.start[0], z - _LOOK_BACK) - 1, -1):
            data = tile_of(self.aligned, p, around)
            if np.count_nonzero(data[tile.slices(around.start)]) > _HELD * tile.size:
                return p, data
        return None, np.zeros(around.shape, self.aligned.dtype)

    def _stranger(self, z: int, around: Box) -> NDArray[Any] | None:
        """The same place half the stack away, turned by 180°; None in stacks of fewer than four sections."""
        first, n = self.aligned.box.start[0], self.aligned.box.shape[0]
        return None if n < 4 else tile_of(self.aligned, first + (z - first + n // 2) % n, around)[::-1, ::-1]

    def _misfit(self, a: NDArray[Any], b: NDArray[Any], around: Box, tile: Box) -> Misfit:
        whole = misfit(a, b, self.settings.reach, self.settings.window)
        margin = (tile.start[0] - around.start[0]) // STEP
        cut = np.s_[..., margin : whole.value.shape[0] - margin, margin : whole.value.shape[1] - margin]
        return Misfit(*(m[cut] for m in (whole.value, whole.here, whole.best, whole.shift)))

    def _worst(self, found: Misfit, tile: Box, previous: int | None) -> NDArray[np.float64]:
        """The highest peaks of a tile's map: rows of ``_COLUMNS``. A peak takes all around it that is more than half as high."""
        left = np.nan_to_num(found.value)
        rows: list[list[float]] = []
        while len(rows) < _KEPT and left.max(initial=0) > 0:
            y, x = (int(n) for n in np.unravel_index(left.argmax(), left.shape))
            labels, _ = ndi.label(left > left[y, x] / 2)
            region = labels == labels[y, x]
            place = [a + STEP * (n + 0.5) for a, n in zip(tile.start, (y, x), strict=True)]
            figures = [found.value[y, x], *found.shift[:, y, x], found.here[y, x], found.best[y, x]]
            rows.append([*place, *figures, region.sum() * STEP**2, np.nan if previous is None else previous])
            left[region] = 0
        return np.array(rows, np.float64).reshape(-1, len(_COLUMNS))


def _bytes(value: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A misfit as it is stored: 0 no data, otherwise 1 + 254 × misfit."""
    return np.where(np.isnan(value), 0, 1 + np.rint(254 * np.nan_to_num(value))).astype(np.uint8)


def _mean(values: NDArray[np.floating]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _check(volume: Volume) -> None:
    if volume.meta.axes != ("z", "y", "x"):
        raise UserError(
            f"{volume.path} has axes {''.join(volume.meta.axes)}; give an aligned stack of sections, with axes zyx"
        )
    if volume.box.shape[0] < 2:
        raise UserError(f"{volume.path} holds {volume.box.shape[0]} section; give a volume of 2 or more")


def _grid(volume: Volume) -> Box:
    """The map's pixels (z, y, x), counted from the volume's corner in y and x."""
    box = volume.box
    return Box((box.start[0], 0, 0), (box.stop[0], *(-(-n // STEP) for n in box.shape[1:])))


def _blocks(volume: Volume, settings: MisalignmentSettings) -> Cover:
    return cover(_grid(volume), (1, *(max(settings.tile // STEP, 1),) * 2))


def _create(volume: Volume, out: str, facts: dict[str, Any]) -> None:
    """The empty map; the centre of its pixel n lies at n * STEP + (STEP - 1) / 2 from the volume's corner."""
    meta, grid, corner = volume.meta, _grid(volume), volume.box.start[1:]
    low = [n // STEP for n in corner]
    zero, *origin = meta.translation or (0.0, 0.0, 0.0)
    offset = [c - STEP * n + (STEP - 1) / 2 for c, n in zip(corner, low, strict=True)]
    z, *size = meta.voxel_size
    described = Meta(
        axes=("z", "y", "x"),
        voxel_size=(z, *(STEP * n for n in size)),
        units=meta.units,
        name="misalignment",
        translation=(zero, *(t + o * n for t, o, n in zip(origin, offset, size, strict=True))),
        provenance=facts,
    )
    chunk = (1, *(min(256, n) for n in grid.shape[1:]))
    create_volume(out, box=grid.shift((0, *low)), dtype="uint8", meta=described, chunk=chunk, overwrite=True)


def _part(parts: Path, index: int) -> Path:
    return parts / f"{index:06d}.npz"


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _gather(volume: Volume, out: str, settings: MisalignmentSettings, parts: Sequence[dict[str, Any]]) -> Misalignment:
    nulls = [part["null"] for part in parts if "null" in part]
    threshold = _percentile(np.sum(nulls, axis=0), 95) if nulls else None
    sections: dict[int, list[dict[str, Any]]] = {}
    for part in parts:
        sections.setdefault(int(part["z"]), []).append(part)
    pairs = [_pair(z, tiles, threshold) for z, tiles in sorted(sections.items())]
    every = [{"z": int(p["z"]), **dict(zip(_COLUMNS, row, strict=True))} for p in parts for row in p["places"].tolist()]
    every.sort(key=lambda place: -place["misfit"])
    return Misalignment(
        out, threshold, pairs, [_place(volume, p, threshold, settings.mip) for p in _apart(every, settings)]
    )


def _pair(z: int, tiles: Sequence[dict[str, Any]], threshold: float | None) -> dict[str, Any]:
    """The figures of one section against the section before it."""
    counts = np.sum([t["counts"] for t in tiles], axis=0)
    weights = np.array([t["counts"][1:].sum() for t in tiles])
    figures = np.array([t["figures"] for t in tiles])
    known = weights > 0
    total = int(counts[1:].sum())
    mean = (weights[known] @ figures[known, 1:] / total).tolist() if total else [float("nan")] * 2
    edge = _BINS if threshold is None else 1 + round(254 * threshold)
    return {
        "z": z,
        "previous": int(figures[known][weights[known].argmax(), 0]) if total else None,
        "correlation": mean[0],
        "best": mean[1],
        "misfit_p50": _percentile(counts, 50),
        "misfit_p99": _percentile(counts, 99),
        "off": float(counts[edge + 1 :].sum() / total) if total and threshold is not None else float("nan"),
        "places": total,
    }


def _percentile(counts: NDArray[Any], q: int) -> float:
    """Of misfits in bytes, 0 left out; NaN if there are none."""
    share = np.cumsum(counts[1:])
    return float(np.searchsorted(share, share[-1] * q / 100)) / 254 if share[-1] else float("nan")


def _apart(places: Sequence[dict[str, Any]], settings: MisalignmentSettings) -> list[dict[str, Any]]:
    """The worst places, no two of a section within a window of each other."""
    kept: list[dict[str, Any]] = []
    for place in places:
        near = (
            k
            for k in kept
            if k["z"] == place["z"] and np.hypot(k["y"] - place["y"], k["x"] - place["x"]) < settings.window
        )
        if len(kept) < settings.worst and not any(near):
            kept.append(place)
    return kept


def _place(volume: Volume, place: dict[str, Any], threshold: float | None, mip: int) -> dict[str, Any]:
    """A place as it is listed: in voxels of the aligned volume, in those of mip 0, and as Neuroglancer takes it (x, y, z)."""
    z, y, x = place["z"], int(place["y"]), int(place["x"])
    factor = 2 ** (int(volume.meta.provenance.get("mip") or 0) + mip)
    previous = place["previous"]
    return {
        "z": z,
        "y": y,
        "x": x,
        "y_mip0": int(factor * place["y"]),
        "x_mip0": int(factor * place["x"]),
        "neuroglancer": f"{x}, {y}, {z}",
        "previous": None if np.isnan(previous) else int(previous),
        "misfit": place["misfit"],
        "above_chance": None if threshold is None else place["misfit"] > threshold,
        "dy": place["dy"],
        "dx": place["dx"],
        "correlation": place["here"],
        "best": place["best"],
        "pixels": int(place["pixels"]),
    }
