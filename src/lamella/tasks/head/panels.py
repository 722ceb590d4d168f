"""Pictures of what a head makes of samples: one row per sample, volumes by their middle section.

``maps.png``: image, then truth and prediction of each output. ``points.png``: image with its points in the colours of their classes,
and the probability of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lamella.tasks.head.sample import MapSample, PointSample
from lamella.view import pictures
from lamella.view.pictures import Picture

_ROWS = 4  # samples shown
_OUTPUTS = 4  # outputs shown of each
_NEAR = 1.0  # sections from the middle one in which a point of a volume is shown

Maps = Float[Tensor, "b _ ..."]


def map_panels(sample: MapSample, found: Maps, names: Sequence[str]) -> dict[str, bytes]:
    """Truth beside prediction, of the first samples of a batch; ``found`` are probabilities (b, k, *space)."""
    rows: list[Picture] = []
    shown = min(len(names), _OUTPUTS)
    for k in range(min(_ROWS, len(found))):
        rows.append(_image(sample.image[k]))
        for output in range(shown):
            is_class = not sample.target.dtype.is_floating_point
            truth = sample.target[k, 0] == output if is_class else sample.target[k, output]
            rows += [pictures.grey(_plane(x), (0.0, 1.0), missing=None) for x in (truth, found[k, output])]
    return {"maps.png": pictures.png(pictures.beside(rows, columns=1 + 2 * shown))}


def point_panels(image: Tensor, sample: PointSample, found: Maps) -> dict[str, bytes]:
    """Points on their images, which are cut to the maps; ``found`` are probabilities (b, k, *space)."""
    rows: list[Picture] = []
    shown = min(found.shape[1], _OUTPUTS)
    for k in range(min(_ROWS, len(found))):
        rows.append(_marked(_image(image[k]), sample, k, image.shape[2]))
        rows += [pictures.grey(_plane(found[k, n]), (0.0, 1.0), missing=None) for n in range(shown)]
    return {"points.png": pictures.png(pictures.beside(rows, columns=1 + shown))}


def _marked(picture: Picture, sample: PointSample, k: int, depth: int) -> Picture:
    """A small square at each point of sample ``k`` that counts."""
    for place, number, kept in zip(
        sample.points[k].cpu().numpy(), sample.classes.tolist(), sample.kept[k], strict=True
    ):
        *above, y, x = place
        if not kept or (above and abs(above[0] - depth // 2) > _NEAR):
            continue
        rows, columns = (slice(max(round(float(v)) - 1, 0), round(float(v)) + 2) for v in (y, x))
        colour: Any = matplotlib.colormaps["tab10"](number % 10, bytes=True)
        picture[rows, columns] = colour[:3]
    return picture


def _image(image: Tensor) -> Picture:
    return pictures.grey(_plane(image[len(image) // 2]), missing=None)


def _plane(tensor: Tensor) -> NDArray[np.float32]:
    array = tensor.detach().float().cpu().numpy()
    return array if array.ndim == 2 else array[len(array) // 2]
