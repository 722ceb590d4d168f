"""Pictures of what a preprocessing measured, one PNG for each stage, in ``previews`` of its folder.

Each row is a channel (or a position), on one frame of it:

- ``shading.png``: the shading (dark 0.5 to bright 1.5), the frame, the frame corrected;
- ``resize.png``: the frame before and after;
- ``masks.png``: frames of up to three positions with the outlines of their masks, and the weight maps where they were made;
- ``statistics.png``: the frame, and what the net sees, from two spreads below the centre to four above it;
- ``tiles.png``: a frame with the tiles that are kept.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.frames import present
from lamella.io.positions import positions_of
from lamella.io.preprocessing import Preprocessing
from lamella.prep.tiles import LIST
from lamella.view.pictures import Picture, beside, grey, heat, png, shrink

_SIDE = 384  # px of a picture in the sheet
_ROWS = 3
_LINE = (255, 176, 0)


def write_preview(source: str, folder: str | Path, stage: str) -> Path:
    """Draw the preview of ``stage`` and return its path."""
    measures = Preprocessing.load(folder)
    names = positions_of(source) or ("",)
    if stage == "tiles":
        rows = _tiles(source, Path(folder), measures)
    else:
        draw = {"shading": _shading, "resize": _resize, "masks": _masks, "statistics": _statistics}[stage]
        rows = draw(source, names, measures)
    path = Path(folder) / "previews" / f"{stage}.png"
    with replacing(path) as out:
        out.write_bytes(png(beside([p for row in rows for p in row], columns=max(map(len, rows)))))
    return path


def _opened(source: str, name: str) -> Volume:
    return open_volume(source, dataset=name or None)


def _frame(view: Volume, channel: int) -> NDArray[np.float32] | None:
    """The middle one of the channel's frames, None if it has none."""
    there = np.argwhere(present(view)[:, channel - view.box.start[1]])
    if not len(there):
        return None
    t, z = there[len(there) // 2] + (view.box.start[0], view.box.start[2])
    return _plane(view, int(t), channel, int(z))


def _plane(view: Volume, t: int, c: int, z: int) -> NDArray[np.float32]:
    start, stop = view.box.start[3:], view.box.stop[3:]
    return view.read(Box((t, c, z, *start), (t + 1, c + 1, z + 1, *stop)))[0, 0, 0].astype(np.float32)


def _shown(image: NDArray[np.float32], limits: tuple[float, float] | None = None) -> Picture:
    return grey(shrink(image, _SIDE), limits, missing=None)


def _channels(view: Volume) -> range:
    return range(view.box.start[1], view.box.stop[1])


def _shading(source: str, names: tuple[str, ...], measures: Preprocessing) -> list[list[Picture]]:
    raw = Preprocessing().view(_opened(source, names[0]))
    lit = Preprocessing(shading=measures.shading).view(_opened(source, names[0]))
    rows = []
    for channel, shading in measures.shading.items():
        before, after = _frame(raw, channel), _frame(lit, channel)
        if before is not None and after is not None:
            rows.append([heat(shrink(shading.field() - 0.5, _SIDE), 1.0), _shown(before), _shown(after)])
    return rows


def _resize(source: str, names: tuple[str, ...], measures: Preprocessing) -> list[list[Picture]]:
    raw = Preprocessing().view(_opened(source, names[0]))
    small = Preprocessing(resize=measures.resize).view(_opened(source, names[0]))
    found = [(_frame(raw, c), _frame(small, c)) for c in _channels(raw)]
    return [[_shown(a), _shown(b)] for a, b in found if a is not None and b is not None]


def _masks(source: str, names: tuple[str, ...], measures: Preprocessing) -> list[list[Picture]]:
    rows = []
    for name in names[:_ROWS]:
        view, mask = measures.view(_opened(source, name), normalise=False), measures.mask(name)
        t, z = (int(n) for n in _middle(mask))
        outline = _edges(shrink(_plane(mask, t, 0, z), _SIDE) > 0.5)
        row = [_lined(_shown(_plane(view, t, c, z)), outline) for c in _there(view, t, z)]
        if measures.weights:
            weights = _plane(measures.weight(name), t, 0, z)
            row.append(heat(shrink(weights, _SIDE), float(weights.max())))
        rows.append(row)
    return rows


def _middle(mask: Volume) -> NDArray[np.int64]:
    there = np.argwhere(present(mask)[:, 0])
    return there[len(there) // 2] + (mask.box.start[0], mask.box.start[2])


def _statistics(source: str, names: tuple[str, ...], measures: Preprocessing) -> list[list[Picture]]:
    assert measures.statistics is not None
    volume = _opened(source, names[0])
    raw, seen = measures.view(volume, normalise=False), measures.view(volume)
    rows = []
    for channel in sorted({g.channel for g in measures.statistics.groups}):
        before, after = _frame(raw, channel), _frame(seen, channel)
        if before is not None and after is not None:
            rows.append([_shown(before), _shown(after, (-2.0, 4.0))])
    return rows


def _tiles(source: str, folder: Path, measures: Preprocessing) -> list[list[Picture]]:
    """From the list of tiles: those of its first position, at the slice of the first of them."""
    assert measures.tiles is not None
    with open(folder / LIST, newline="") as handle:
        listed = list(csv.DictReader(handle))
    first = {k: listed[0][k] for k in ("position", "time_idx", "z")}
    corners = [(int(t["y"]), int(t["x"])) for t in listed if {k: t[k] for k in first} == first]
    view = measures.view(_opened(source, first["position"]), normalise=False)
    t, z = int(first["time_idx"]), int(first["z"]) + measures.tiles.depth // 2
    (height, width), lines = measures.tiles.size, np.zeros(view.box.shape[3:], np.float32)
    for y, x in corners:
        y, x = y - view.box.start[3], x - view.box.start[4]
        part = lines[y : y + height, x : x + width]
        part[:2], part[-2:], part[:, :2], part[:, -2:] = 1, 1, 1, 1
    return [[_lined(_shown(_plane(view, t, c, z)), shrink(lines, _SIDE) > 0.2)] for c in _there(view, t, z)]


def _there(view: Volume, t: int, z: int) -> list[int]:
    """The channels that have this frame."""
    there = present(view)[t - view.box.start[0], :, z - view.box.start[2]]
    return [c for c, exists in zip(_channels(view), there, strict=True) if exists]


def _edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that have a neighbour outside."""
    inside = mask.copy()
    inside[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inside


def _lined(picture: Picture, line: NDArray[np.bool_]) -> Picture:
    picture[line] = _LINE
    return picture
