"""Pictures of what a segmentation net makes of samples: one row per sample, volumes by their middle section.

``objects.png`` and ``boundaries.png``: image, truth, prediction, difference. ``instances.png``: image, outlines of the labels in
green and of the instances in magenta (white where they agree), the distance map if the net has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries
from torch import Tensor

from lamella.tasks.segment.net import Head
from lamella.tasks.segment.sample import SegmentSample
from lamella.view import pictures
from lamella.view.pictures import Picture

_ROWS = 5  # samples shown
_GREEN, _MAGENTA, _WHITE = (0, 220, 90), (255, 60, 200), (255, 255, 255)


def draw_panels(maps: Mapping[Head, Tensor], sample: SegmentSample, found: Sequence[NDArray[Any]]) -> dict[str, bytes]:
    """The pictures by file name, of the first samples of a batch; ``found`` are the instances of each."""
    rows = range(min(_ROWS, len(found)))
    images = [_shown(sample.image[k, sample.image.shape[1] // 2]) for k in rows]
    valid = [_plane(sample.valid[k, 0]) for k in rows]
    drawn: dict[str, bytes] = {}
    for head in ("objects", "boundaries"):
        if head in maps:
            triples = [(_plane(sample.targets[head][k, 0]), _plane(maps[head][k, 0])) for k in rows]
            drawn[f"{head}.png"] = _sheet(
                [image, *_compared(*pair, seen)] for image, pair, seen in zip(images, triples, valid, strict=True)
            )
    outlines = [_outlined(images[k], _middle(sample.labels[k, 0].cpu().numpy()), _middle(found[k])) for k in rows]
    pairs = [[images[k], outlines[k]] for k in rows]
    if "distance" in maps:
        pairs = [[*pair, pictures.heat(_plane(maps["distance"][k, 0]), 1.0)] for k, pair in enumerate(pairs)]
    return {**drawn, "instances.png": _sheet(pairs)}


def _compared(truth: NDArray[np.float32], found: NDArray[np.float32], valid: NDArray[np.float32]) -> list[Picture]:
    """Truth and prediction as grey, and their difference where it counts."""
    difference = pictures.heat(np.abs(found - truth) * valid, 1.0)
    return [*(pictures.grey(x, (0.0, 1.0), missing=None) for x in (truth, found)), difference]


def _outlined(image: Picture, labels: NDArray[Any], found: NDArray[Any]) -> Picture:
    picture = image // 2
    true, drawn = (find_boundaries(x, mode="inner") for x in (labels, found))
    for where, colour in ((true, _GREEN), (drawn, _MAGENTA), (true & drawn, _WHITE)):
        picture[where] = colour
    return picture


def _sheet(rows: Any) -> bytes:
    made = list(rows)
    flat = [picture for row in made for picture in row]
    return pictures.png(pictures.beside(flat, columns=len(made[0])))


def _shown(image: Tensor) -> Picture:
    return pictures.grey(_plane(image), missing=None)


def _plane(tensor: Tensor) -> NDArray[np.float32]:
    return _middle(tensor.detach().float().cpu().numpy())


def _middle(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself in 2D, its middle section in 3D."""
    return array if array.ndim == 2 else array[len(array) // 2]
