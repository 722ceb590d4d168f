"""Pictures of what a detector makes of samples: section, truth and prediction in colours, one row per sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamella.tasks.defects.net import Defect
from lamella.tasks.defects.sample import DefectsSample
from lamella.view import pictures
from lamella.view.pictures import Picture

COLOURS: dict[str, tuple[int, int, int]] = {"crack": (255, 120, 0), "fold": (60, 150, 255), "cover": (230, 60, 200)}
"""Of cracks, folds and covers, over a grey section."""
_ROWS = 6  # samples shown


def draw_panels(sample: DefectsSample, found: Tensor, kinds: Sequence[Defect]) -> dict[str, bytes]:
    """``defects.png``: probabilities ``found`` (b, k, h, w) beside the truth."""
    rows = []
    for k in range(min(_ROWS, len(found))):
        image = pictures.grey(_plane(sample.image[k, 0]), (0.0, 1.0))
        true, seen = (coloured(image, kinds, x[k].detach().float().cpu().numpy()) for x in (sample.targets, found))
        rows += [image, true, seen]
    return {"defects.png": pictures.png(pictures.beside(rows, columns=3))}


def coloured(image: Picture, kinds: Sequence[str], shares: NDArray[np.floating]) -> Picture:
    """A picture with each kind laid over it in its colour, as strongly as ``shares`` (k, y, x), 0 to 1, say."""
    shown = image.astype(np.float32)
    for kind, share in zip(kinds, shares, strict=True):
        weight = 0.6 * np.clip(share, 0, 1)[..., None]
        shown = shown * (1 - weight) + weight * np.array(COLOURS[kind], np.float32)
    return shown.astype(np.uint8)


def _plane(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
