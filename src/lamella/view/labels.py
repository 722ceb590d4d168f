"""Pictures of labels: colours that tell neighbours apart, outlines over an image, and truth against prediction.

Labels come in as integers (y, x), 0 background; pictures are uint8 (y, x, 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamella.ops.matching import IGNORED, Overlaps
from lamella.ops.matching_scores import compare, match
from lamella.view.pictures import Picture

Labels = NDArray[np.integer]

_UNKNOWN = (150, 150, 150)

# in the order in which a label's own colour is sought; all are told apart on black and by colour-blind eyes in pairs
_PALETTE = np.array(
    [
        (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (120, 94, 240),
        (0, 200, 200), (255, 140, 150), (150, 200, 70), (170, 130, 90), (190, 190, 255),
    ],
    np.uint8,
)  # fmt: skip

FOUND, MISSED, FALSE, TRUTH = (90, 220, 90), (255, 150, 0), (235, 60, 220), (240, 240, 240)
"""Colours of ``difference``: predictions that match, objects that none matches, predictions that match none, true outlines."""


def colours(labels: Labels) -> Picture:
    """Labels as colours on black. A label keeps its colour from picture to picture, unless a neighbour with a lower number has
    it; then the next one that is free.
    """
    ids, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    chosen = _chosen(ids, _neighbours(index))
    table = np.concatenate([np.zeros((1, 3), np.uint8), _PALETTE])
    return table[np.where(ids > 0, chosen + 1, 0)][index]


def _neighbours(index: NDArray[np.integer]) -> dict[int, set[int]]:
    """Which labels come within four pixels of each other along y, x or a diagonal: of each those with a lower index."""
    met: dict[int, set[int]] = {}
    for dy, dx in ((dy * n, dx * n) for n in (1, 2, 4) for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))):
        if dy >= index.shape[0] or abs(dx) >= index.shape[1]:
            continue
        a = index[dy:, max(-dx, 0) : index.shape[1] - max(dx, 0)]
        b = index[: index.shape[0] - dy, max(dx, 0) : index.shape[1] - max(-dx, 0)]
        differ = a != b
        for x, y in np.unique(np.stack([a[differ], b[differ]]), axis=1).T.tolist():
            met.setdefault(max(x, y), set()).add(min(x, y))
    return met


def _chosen(ids: NDArray[np.integer], lower: dict[int, set[int]]) -> NDArray[np.int64]:
    """A colour for each label: its own, or the next that no neighbour has; its own if all are taken."""
    count = len(_PALETTE)
    chosen = (ids.astype(np.int64) * 7) % count  # 7 and 12 have no common factor, so labels in a row get all colours
    for k in range(len(ids)):
        taken = {int(chosen[n]) for n in lower.get(k, ()) if ids[n] > 0}
        own = int(chosen[k])
        chosen[k] = next((c % count for c in range(own, own + count) if c % count not in taken), own)
    return chosen


def outline(labels: Labels, thickness: int = 1) -> NDArray[np.bool_]:
    """The pixels of objects within ``thickness`` of where they end (not at the edge of the image).

    >>> outline(np.ones((3, 3), int)).any()
    np.False_
    """
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        moved, values = np.moveaxis(edge, axis, 0), np.moveaxis(labels, axis, 0)
        for step in range(1, min(thickness, len(values) - 1) + 1):
            differ = values[step:] != values[:-step]
            moved[step:] |= differ
            moved[:-step] |= differ
    return edge & (labels > 0)


def outlined(
    picture: Picture, labels: Labels, colour: tuple[int, int, int] = (255, 220, 0), thickness: int = 1
) -> Picture:
    """The picture with the outlines of ``labels`` drawn over it."""
    shown = picture.copy()
    shown[outline(labels, thickness)] = colour
    return shown


def difference(picture: Picture, true: Labels, predicted: Labels, threshold: float = 0.5) -> Picture:
    """Truth against prediction over a darkened picture, matched at an IoU of ``threshold``.

    Green outlines are predictions that match and white ones the truth they match; missed objects are filled with orange, false
    predictions with magenta, what is ignored in the truth (``IGNORED``) with grey; predictions there have no outline.
    """
    found = compare(Overlaps.of(true, predicted))
    pairs = match(found, threshold)
    shown = (0.6 * picture).astype(np.uint8)
    hit, met = found.true.ids[found.rows[pairs]], found.predicted.ids[found.columns[pairs]]
    missed = np.isin(true, np.setdiff1d(found.true.ids, hit))
    false = np.isin(predicted, np.setdiff1d(found.predicted.ids, met))
    for where, colour in ((missed, MISSED), (false, FALSE), (true == IGNORED, _UNKNOWN)):
        shown[where] = (0.55 * shown[where] + 0.45 * np.array(colour)).astype(np.uint8)
    for labels, colour in (
        (np.where(np.isin(true, hit), true, 0), TRUTH),
        (np.where(np.isin(predicted, met), predicted, 0), FOUND),
    ):
        shown[outline(labels)] = colour
    shown[outline(np.where(missed, true, 0))] = MISSED
    shown[outline(np.where(false, predicted, 0))] = FALSE
    return shown
