"""Scores of predicted objects against true ones, from their overlaps.

An object is found at a threshold t if it is matched, one to one, with a predicted one of IoU >= t (intersection over union, in
voxels). TP, FP, FN count found objects, predictions without a partner, and objects without one. Which figure follows whom:

- AP = TP / (TP + FP + FN), at t = 0.50, 0.55 … 0.95 (Data Science Bowl 2018; StarDist);
- F1 = 2 TP / (2 TP + FP + FN), precision, recall;
- PQ = SQ · RQ, with IoU > 0.5 (Kirillov et al., Panoptic Segmentation, 2019);
- SEG_ctc, the SEG of the Cell Tracking Challenge: the mean over true objects of the IoU with the prediction that covers more
  than half of them, 0 if none does (Maška et al., 2014); SEG counts the best IoU if it is above 0.5, else 0;
- object Dice: for every object of one side the Dice with the one that overlaps it most, weighted by area, the mean of both sides
  (Sirinukunwattana et al., GlaS, 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lamella.ops.matching import IGNORED, Ints, Objects, Overlaps

THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # as the benchmarks write them, rounding included: 0.6 is 0.6000000000000001
Matching = Literal["hungarian", "greedy"]
_BLOB_SHARE = 0.6  # a prediction with so much of its area in a blob is of the blob


@dataclass(frozen=True)
class Side:
    """The objects of one side that count: ``ids``, ``areas`` int64 (n,), ``centres`` float64 (n, ndim), and what became of
    the others (``dropped``: reason by id)."""

    ids: Ints
    areas: Ints
    centres: NDArray[np.float64]
    dropped: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Compared:
    """True and predicted objects with their overlaps: ``rows``, ``columns`` int64 (k,) into the two sides, ``shared`` voxels and
    ``iou`` float64 of each pair that meets."""

    true: Side
    predicted: Side
    rows: Ints
    columns: Ints
    shared: Ints
    iou: NDArray[np.float64]


def compare(overlaps: Overlaps, *, drop_border: bool = False) -> Compared:
    """The objects that count. Ignored voxels belong to none; predictions that lie in ignored regions by 0.6 are dropped.

    With ``drop_border``, true objects at the edge of the image are dropped, and so are predictions that overlap most with one of
    them, or that touch the edge without touching a true object that is kept.
    """
    pairs, counts = overlaps.pairs, overlaps.counts
    whole = _areas(overlaps.predicted.ids, pairs[:, 1], counts)
    blob = pairs[:, 0] == IGNORED
    in_blob = _areas(overlaps.predicted.ids, pairs[blob, 1], counts[blob])
    gone = {int(i): "in ignored region" for i in overlaps.predicted.ids[(in_blob >= _BLOB_SHARE * whole) & (whole > 0)]}
    pairs, counts = pairs[~blob], counts[~blob]
    lost: dict[int, str] = {}
    if drop_border:
        lost = {int(i): "at border" for i in overlaps.true.ids[overlaps.true.border]}
        gone |= _at_border(overlaps, pairs, counts, set(lost))
    true = _side(overlaps.true, pairs[:, 0], counts, lost)
    predicted = _side(overlaps.predicted, pairs[:, 1], counts, gone)
    return _paired(true, predicted, pairs, counts)


def _areas(ids: Ints, labels: Ints, counts: Ints) -> Ints:
    """Voxels of each of ``ids`` (ascending) among ``counts`` of ``labels``."""
    row = np.searchsorted(ids, labels)
    there = (
        (row < len(ids)) & (ids[np.minimum(row, len(ids) - 1)] == labels) if len(ids) else np.zeros(len(labels), bool)
    )
    return np.bincount(row[there], counts[there], len(ids)).astype(np.int64)


def _at_border(overlaps: Overlaps, pairs: Ints, counts: Ints, lost: set[int]) -> dict[int, str]:
    """Predictions that go with what is dropped at the border."""
    met = (pairs[:, 0] > 0) & (pairs[:, 1] > 0)
    best: dict[int, int] = {}
    for k in np.flatnonzero(met)[np.argsort(counts[met], kind="stable")]:
        best[int(pairs[k, 1])] = int(pairs[k, 0])
    touching = {int(i) for i in overlaps.predicted.ids[overlaps.predicted.border]}
    gone = {p for p, t in best.items() if t in lost} | {p for p in touching if p not in best}
    return dict.fromkeys(gone, "at border")


def _side(objects: Objects, labels: Ints, counts: Ints, dropped: dict[int, str]) -> Side:
    areas = _areas(objects.ids, labels, counts)
    kept = (areas > 0) & ~np.isin(objects.ids, list(dropped))
    return Side(objects.ids[kept], areas[kept], objects.centres[kept], dropped)


def _paired(true: Side, predicted: Side, pairs: Ints, counts: Ints) -> Compared:
    kept = np.isin(pairs[:, 0], true.ids) & np.isin(pairs[:, 1], predicted.ids)
    rows = np.searchsorted(true.ids, pairs[kept, 0])
    columns = np.searchsorted(predicted.ids, pairs[kept, 1])
    shared = counts[kept]
    iou = shared / (true.areas[rows] + predicted.areas[columns] - shared)
    return Compared(true, predicted, rows, columns, shared, iou)


def match(found: Compared, threshold: float, method: Matching = "hungarian") -> Ints:
    """Indices of the pairs that are matched one to one at IoU >= ``threshold``.

    ``hungarian`` finds the matching with the greatest sum of 1 + IoU, ``greedy`` takes the pairs from the best down. They differ
    only where an object has several candidates, which at a threshold above 0.5 cannot be.
    """
    good = np.flatnonzero(found.iou >= threshold)
    if method == "greedy":
        return _greedy(found, good)
    once = _unique_in(found.rows[good]) & _unique_in(found.columns[good])
    return np.sort(np.concatenate([good[once], _assigned(found, good[~once])]))


def _unique_in(values: Ints) -> NDArray[np.bool_]:
    _, row, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[row] == 1


def _greedy(found: Compared, good: Ints) -> Ints:
    rows, columns, taken = set[int](), set[int](), []
    for k in good[np.argsort(-found.iou[good], kind="stable")].tolist():
        row, column = int(found.rows[k]), int(found.columns[k])
        if row not in rows and column not in columns:
            taken.append(k)
            rows.add(row)
            columns.add(column)
    return np.array(sorted(taken), np.int64)


def _assigned(found: Compared, candidates: Ints) -> Ints:
    """The best assignment among candidates, group by group of objects that compete."""
    if not len(candidates):
        return candidates
    n = len(found.true)
    edges = (found.rows[candidates], n + found.columns[candidates])
    graph = coo_array((np.ones(len(candidates)), edges), (n + len(found.predicted),) * 2)
    group = connected_components(graph, directed=False)[1][edges[0]]
    return np.concatenate([_assign(found, candidates[group == g]) for g in np.unique(group)])


def _assign(found: Compared, candidates: Ints) -> Ints:
    rows, row = np.unique(found.rows[candidates], return_inverse=True)
    columns, column = np.unique(found.columns[candidates], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1 + found.iou[candidates]
    which = np.full(gain.shape, -1, np.int64)
    which[row, column] = candidates
    chosen = which[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]


@dataclass(frozen=True)
class ObjectScores:
    """Sums from which all figures follow; scores of images add up to those of all images together (pooled).

    ``counts`` int64 (thresholds, 3): TP, FP, FN. ``best`` and ``covering`` float64 (n,): of each true object the best IoU, and
    that with the prediction that covers more than half of it (else 0). ``panoptic``: number of pairs with IoU > 0.5 and the sum
    of their IoU. ``dice``: for both sides, sum of area times Dice and sum of areas. ``voxels``: foreground in both, in the truth,
    in the prediction.
    """

    counts: Ints
    best: NDArray[np.float64]
    covering: NDArray[np.float64]
    panoptic: NDArray[np.float64]
    dice: NDArray[np.float64]
    voxels: Ints

    @classmethod
    def of(cls, found: Compared, method: Matching = "hungarian") -> ObjectScores:
        n, m = len(found.true), len(found.predicted)
        hits = [len(match(found, t, method)) for t in THRESHOLDS]
        counts = np.array([(tp, m - tp, n - tp) for tp in hits], np.int64)
        best = np.zeros(n)
        np.maximum.at(best, found.rows, found.iou)
        covering = np.zeros(n)
        half = found.shared * 2 > found.true.areas[found.rows]
        covering[found.rows[half]] = found.iou[half]
        sure = found.iou[found.iou > 0.5]
        voxels = [found.shared.sum(), found.true.areas.sum(), found.predicted.areas.sum()]
        panoptic = np.array([len(sure), sure.sum()])
        return cls(counts, best, covering, panoptic, _dice(found), np.array(voxels, np.int64))

    def __add__(self, other: ObjectScores) -> ObjectScores:
        return ObjectScores(
            self.counts + other.counts,
            np.concatenate([self.best, other.best]),
            np.concatenate([self.covering, other.covering]),
            self.panoptic + other.panoptic,
            self.dice + other.dice,
            self.voxels + other.voxels,
        )

    @property
    def ap(self) -> NDArray[np.float64]:
        """AP at each threshold; 0 where there is neither object nor prediction."""
        return self.counts[:, 0] / np.maximum(self.counts.sum(axis=1), 1)

    def figures(self) -> dict[str, Any]:
        """All figures by name; NaN where there is nothing to count."""
        tp, fp, fn = (int(n) for n in self.counts[0])
        pairs, total = self.panoptic
        both, true, predicted = (int(n) for n in self.voxels)
        sq, rq = _share(total, pairs), _share(pairs, (2 * tp + fp + fn) / 2)
        return {
            "true": tp + fn,
            "predicted": tp + fp,
            "matched": tp,
            "AP50": float(self.ap[0]),
            "AP75": float(self.ap[5]),
            "mAP": float(self.ap.mean()),
            "precision": _share(tp, tp + fp),
            "recall": _share(tp, tp + fn),
            "F1": _share(2 * tp, 2 * tp + fp + fn),
            "PQ": _share(total, (2 * tp + fp + fn) / 2),
            "SQ": sq,
            "RQ": rq,
            "SEG": _mean(np.where(self.best > 0.5, self.best, 0)),
            "SEG_ctc": _mean(self.covering),
            "dice_objects": float(np.mean([_share(*side) for side in self.dice])),
            "dice_pixels": _share(2 * both, true + predicted),
        }


def _dice(found: Compared) -> NDArray[np.float64]:
    """For the true and the predicted objects: the sum of area times Dice with the object that overlaps most, and of areas."""
    sides = []
    for here, areas, index in ((found.true, found.predicted.areas, 0), (found.predicted, found.true.areas, 1)):
        own, other = (found.rows, found.columns) if index == 0 else (found.columns, found.rows)
        order = np.argsort(found.shared, kind="stable")  # of several, the last one written is the largest
        partner = np.full(len(here), -1, np.int64)
        partner[own[order]] = order
        has = partner >= 0
        k = partner[has]
        dice = 2 * found.shared[k] / (here.areas[has] + areas[other[k]])
        sides.append((float((dice * here.areas[has]).sum()), float(here.areas.sum())))
    return np.array(sides)


def _share(part: int | float, whole: int | float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
