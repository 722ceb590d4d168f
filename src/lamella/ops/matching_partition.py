"""Scores of a labelling as a partition of the image: variation of information and the adapted Rand error.

They ask of pairs of voxels whether both labellings put them together, and need no matching; the usual scores of neuron
segmentation. Two sets of voxels are in use: *all*, where background is a segment like others; and *foreground*, the convention of
ISBI 2012 and SNEMI3D, where voxels that are background (membrane) in the truth are left out and every voxel that the prediction
leaves as background is a segment of its own (Arganda-Carreras et al., 2015). Ignored voxels are left out of both.

Split is H(predicted | true), merge H(true | predicted), in bits. Rand split is the share of the pairs together in the truth that are
together in the prediction, too, low where objects are split (recall); Rand merge the share of the pairs together in the prediction
that are rightly so, low where they are merged (precision); the error is 1 - F, their harmonic mean. Without background, the figures are those of scikit-image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.ops.matching import IGNORED, Ints, Overlaps


def partition_figures(overlaps: Overlaps) -> dict[str, float]:
    """``voi_split``, ``voi_merge``, ``voi``, ``rand_split``, ``rand_merge``, ``adapted_rand_error`` over all voxels, and ``foreground_…`` of each over those that
    are no background in the truth; NaN where there is nothing to compare.
    """
    (true, predicted), counts = overlaps.pairs.T, overlaps.counts
    known, inside = true != IGNORED, true > 0
    alone = inside & (predicted == 0)  # each of these voxels a segment
    inner = _figures(true[inside], predicted[inside], counts[inside], alone[inside])
    every = _figures(true[known], predicted[known], counts[known], np.zeros(int(known.sum()), bool))
    return {**every, **{f"foreground_{name}": value for name, value in inner.items()}}


def _figures(true: Ints, predicted: Ints, counts: Ints, alone: NDArray[np.bool_]) -> dict[str, float]:
    """Figures of a table of ``counts``; a row that is ``alone`` stands for so many segments of one voxel each."""
    n = counts.sum()
    true_area = _sums(true, counts)
    predicted_area = np.where(alone, 1, _sums(np.where(alone, -1, predicted), counts))
    cell = np.where(alone, 1, counts)
    split = float((counts * np.log2(true_area / cell)).sum() / n) if n else float("nan")
    merge = float((counts * np.log2(predicted_area / cell)).sum() / n) if n else float("nan")
    both, in_true, in_predicted = (float((counts * (size - 1.0)).sum()) for size in (cell, true_area, predicted_area))
    return {
        "voi_split": split,
        "voi_merge": merge,
        "voi": split + merge,
        "rand_split": _share(both, in_true),
        "rand_merge": _share(both, in_predicted),
        "adapted_rand_error": 1 - _share(2 * both, in_true + in_predicted),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _sums(labels: Ints, counts: Ints) -> NDArray[Any]:
    """Of each row, the voxels of its label in all rows."""
    _, row = np.unique(labels, return_inverse=True)
    return np.bincount(row, counts)[row] if len(row) else np.zeros(0)
