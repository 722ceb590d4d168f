"""What an alignment method does on pairs of sections: the correlation it reaches, its null, and forward-backward error.

The method's null is the correlation it reaches against an *unrelated* section, where the truth is about zero: a method that
bends tissue until noise fits has a high one. Forward-backward error is how far a point is from where it started after going to
the other section by one field and back by the other; two wrong fields can agree, but two that disagree are not both right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.volume import Volume
from lamella.ops.correlation import chunked_pearson
from lamella.ops.tally import PIXEL_BINS, Tally
from lamella.tasks.align.scores import folds_of, tile_of

Estimate = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]]
"""A method: from (source, target) the field (2, y, x) on the target's grid, ``source(x + field(x))`` fits ``target(x)``."""

_CROP = 512  # px; side of the crops on which the method is run
_RIM = 32  # px at the edge of those crops that are left out, because what they show may lie outside
_SEARCH = 5  # sections looked at on either side for one that holds data


def check_method(volume: Volume, part: Box, estimate: Estimate, samples: int, chunk: int) -> dict[str, Any]:
    """Run ``estimate`` on ``samples`` pairs of neighbours in ``part`` of ``volume``, both ways and against an unrelated section."""
    pairs = _sampled_pairs(volume, part, samples)
    rows, distances = [], Tally.empty(PIXEL_BINS)
    with progress("running the method again", len(pairs), "pairs") as meter:
        for pair in pairs:
            row, distance = _check_pair(volume, part, estimate, pair, chunk)
            rows.append(row)
            distances += Tally.of(distance, PIXEL_BINS)
            meter.advance()
    means = {key: _mean([row[key] for row in rows]) for key in ("before", "after", "null", "folded_percent")}
    net = means["after"] - means["null"]
    return {"chunk": chunk, **means, "net": net, "forward_backward": distances.summary(), "pairs": rows}


def _mean(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _sampled_pairs(volume: Volume, part: Box, samples: int) -> list[tuple[int, int, int]]:
    """(section, its predecessor, an unrelated section) at even distances through the stack, where all three hold data."""
    first, n = part.start[0], part.shape[0]
    found = []
    for z in np.unique(np.linspace(1, n - 1, samples).astype(int)):
        near = [first + int(z) + k for k in sorted(range(-_SEARCH, _SEARCH + 1), key=abs)]
        here = next((s for s in near if s > first and all(_holds_data(volume, part, t) for t in (s, s - 1))), None)
        if here is None:
            continue
        far = [first + (here - first + n // 2 + k) % n for k in sorted(range(-_SEARCH, _SEARCH + 1), key=abs)]
        stranger = next((s for s in far if abs(s - here) > 1 and _holds_data(volume, part, s)), None)
        if stranger is not None:
            found.append((here, here - 1, stranger))
    if not found:
        raise UserError(
            f"{volume.path} has {n} sections and no two neighbours with an unrelated section that hold data in their middle; "
            "running the method again needs at least four whole sections; leave out --run"
        )
    return list(dict.fromkeys(found))


def _holds_data(volume: Volume, part: Box, z: int) -> bool:
    box = _crop(part)
    first, n = part.start[0], part.shape[0]
    return first <= z < first + n and bool(np.count_nonzero(tile_of(volume, z, box)) > 0.5 * box.size)


def _crop(part: Box) -> Box:
    """The middle of a section (y, x), at most 512 px wide."""
    start, stop = part.start[1:], part.stop[1:]
    side = [min(_CROP, b - a) for a, b in zip(start, stop, strict=True)]
    corner = [(a + b - n) // 2 for a, b, n in zip(start, stop, side, strict=True)]
    return Box(tuple(corner), tuple(c + n for c, n in zip(corner, side, strict=True)))


def _check_pair(
    volume: Volume, part: Box, estimate: Estimate, pair: tuple[int, int, int], chunk: int
) -> tuple[dict[str, Any], NDArray[np.floating]]:
    """Figures of one pair, and the forward-backward error of each pixel."""
    source, target, unrelated = (tile_of(volume, z, _crop(part)) for z in pair)
    stranger = np.ascontiguousarray(unrelated[::-1, ::-1])
    forward, backward, to_stranger = estimate(source, target), estimate(target, source), estimate(source, stranger)
    distance = np.hypot(*(forward + _sample(backward, forward)))
    rim = np.s_[_RIM:-_RIM, _RIM:-_RIM]
    row: dict[str, Any] = dict(zip(("z", "previous", "unrelated"), pair, strict=True))
    row |= {
        "before": _fit(source, target, chunk),
        "after": _fit(_moved(source, forward), target, chunk),
        "null": _fit(_moved(source, to_stranger), stranger, chunk),
        "folded_percent": 100 * float(folds_of(forward.astype(np.float64))[rim].mean()),
    }
    return row, distance[rim]


def _sample(layers: NDArray[Any], field: NDArray[np.floating], mode: str = "nearest") -> NDArray[np.float32]:
    """Layers (c, y, x) at the places where ``field`` looks, interpolated linearly."""
    where = np.mgrid[: field.shape[1], : field.shape[2]] + field
    return np.stack([ndi.map_coordinates(c.astype(np.float32), where, order=1, mode=mode) for c in layers])


def _moved(section: NDArray[Any], field: NDArray[np.floating]) -> NDArray[np.float32]:
    """The section pulled by ``field``; 0 where it would look at missing data or outside."""
    present = _sample((section != 0)[None], field, mode="constant")[0] > 0.99
    return np.where(present, _sample(section[None], field)[0], 0).astype(np.float32)


def _fit(a: NDArray[Any], b: NDArray[Any], chunk: int) -> float:
    r = chunked_pearson(a, b, chunk, (a != 0) & (b != 0), border=_RIM)
    return float(np.nanmean(r)) if np.isfinite(r).any() else float("nan")
