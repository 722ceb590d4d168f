"""Pictures of what a translation net makes of samples: one row per sample, volumes and windows by their middle slice.

``translation.png``: input, then for each target the target, the prediction and their difference where it counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamella.tasks.translate.sample import TranslateSample
from lamella.view import pictures
from lamella.view.pictures import Picture

_ROWS = 4  # samples shown


def draw_panels(sample: TranslateSample, prediction: Tensor, targets: int) -> dict[str, bytes]:
    """The picture by file name, of the first samples of a batch."""
    slices = sample.target.shape[1] // targets
    rows: list[Picture] = []
    for k in range(min(_ROWS, len(prediction))):
        rows.append(pictures.grey(_plane(sample.image[k, sample.image.shape[1] // 2]), missing=None))
        for target in range(targets):
            channel = target * slices + slices // 2
            rows += _compared(*(_plane(x[k, channel]) for x in (sample.target, prediction, sample.weight)))
    return {"translation.png": pictures.png(pictures.beside(rows, columns=1 + 3 * targets))}


def _compared(truth: NDArray[np.float32], found: NDArray[np.float32], weight: NDArray[np.float32]) -> list[Picture]:
    """Truth and prediction in the same grey, and their difference where it counts."""
    limits = pictures.grey_limits(truth)
    difference = pictures.heat(np.abs(found - truth) * (weight > 0), max(limits[1] - limits[0], 1e-6))
    return [*(pictures.grey(x, limits, missing=None) for x in (truth, found)), difference]


def _plane(tensor: Tensor) -> NDArray[Any]:
    array = tensor.detach().float().cpu().numpy()
    return array if array.ndim == 2 else array[len(array) // 2]
