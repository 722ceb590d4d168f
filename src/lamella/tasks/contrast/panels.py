"""Pictures of what a net makes of two views: one row per sample, volumes by their middle section.

``views.png``: the first view and the second, with points of the same colour where they show the same place, and the embeddings of
both in the colours of their principal components, which are like where a net finds places alike.
"""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamella.ops.principal import principal
from lamella.tasks.contrast.sample import ContrastSample, View
from lamella.view import pictures
from lamella.view.pictures import Picture

_ROWS = 4  # samples shown
_POINTS = 40  # points shown in each; more would hide the image
_NEAR = 1.0  # sections from the middle one in which a point of a volume is shown
_SAMPLE = 5000  # embeddings that components are fitted on


def draw_panels(sample: ContrastSample, first: Tensor, second: Tensor, margin: tuple[int, ...]) -> dict[str, bytes]:
    """The picture by file name; ``first`` and ``second`` (b, h, *space) are the embeddings of the views, less ``margin``."""
    rows: list[Picture] = []
    for k in range(min(_ROWS, len(first))):
        kept = sample.kept[k].nonzero().flatten()[:_POINTS].cpu().numpy()
        rows += [_marked(view, k, kept, margin) for view in (sample.first, sample.second)]
        rows += _coloured(*(maps[k].detach().float().cpu().numpy() for maps in (first, second)))
    return {"views.png": pictures.png(pictures.beside(rows, columns=4))}


def _marked(view: View, k: int, kept: NDArray[np.intp], margin: tuple[int, ...]) -> Picture:
    """A view, less the margin, with a small square at each of the points ``kept``."""
    image = view.image[k, view.image.shape[1] // 2].cpu().numpy()
    image = image[tuple(slice(m, n - m) for m, n in zip(margin, image.shape, strict=True))]
    points = view.points[k].cpu().numpy() - margin
    picture = pictures.grey(_middle(image), missing=None)
    for number, index in enumerate(kept):
        *above, y, x = points[index]
        if above and abs(above[0] - image.shape[0] // 2) > _NEAR:
            continue
        rows, columns = (slice(max(round(float(v)) - 1, 0), round(float(v)) + 2) for v in (y, x))
        colour: Any = matplotlib.colormaps["hsv"](number / _POINTS, bytes=True)
        picture[rows, columns] = colour[:3]
    return picture


def _coloured(first: NDArray[np.float32], second: NDArray[np.float32]) -> list[Picture]:
    """Embeddings (h, *space) of both views in the same colours."""
    both = np.concatenate([first.reshape(len(first), -1), second.reshape(len(second), -1)], 1).T
    components = principal(both[:: max(len(both) // _SAMPLE, 1)])
    return [components.colours(_middle(maps, 1)) for maps in (first, second)]


def _middle(array: NDArray[Any], lead: int = 0) -> NDArray[Any]:
    """The array itself in 2D, its middle section in 3D; ``lead`` axes come before space."""
    return array if array.ndim - lead == 2 else array.take(array.shape[lead] // 2, lead)
