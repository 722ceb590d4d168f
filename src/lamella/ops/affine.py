"""Affine transforms of a section's plane, as 3 × 3 matrices on (y, x, 1).

A transform leads from a place in the result to the place in the source where to look, as fields do: ``pull`` reads
``source(M p)`` for each ``p`` of the result. Pixel centres lie on whole numbers, and pixel ``i`` of a mip ``factor`` times coarser
has its centre at ``factor * i + (factor - 1) / 2``.

Laws (tested): ``pull(pull(x, a), b) == pull(x, a @ b)`` up to interpolation; ``at_scale`` keeps the place in the tissue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lamella.core.box import Box

Matrix = NDArray[np.floating[Any]]
Pair = Sequence[float | int] | NDArray[Any]  # y and x


def shifted(offset: Pair) -> Matrix:
    """The transform that looks ``offset`` (y, x) further.

    >>> shifted((1, 2))[:2, 2].tolist()
    [1.0, 2.0]
    """
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix


def turned(degrees: float | int, here: Pair, there: Pair) -> Matrix:
    """Turned by ``degrees`` about ``here`` in the result, which shows ``there`` in the source."""
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return shifted(there) @ matrix @ shifted(-np.asarray(here, float))


def scaled(factor: float | int | Pair) -> Matrix:
    """From places of a mip ``factor`` (one number, or y and x) times coarser to those of the finer one."""
    factors = np.broadcast_to(np.asarray(factor, float), 2)
    return np.array([[factors[0], 0, (factors[0] - 1) / 2], [0, factors[1], (factors[1] - 1) / 2], [0, 0, 1]])


def at_scale(matrix: Matrix, factor: float | int | Pair) -> Matrix:
    """A transform of a fine mip as that of one ``factor`` times coarser (finer, below 1).

    >>> at_scale(shifted((8, 16)), 4)[:2, 2].tolist()
    [2.0, 4.0]
    """
    return np.linalg.inv(scaled(factor)) @ matrix @ scaled(factor)


def moved(matrix: Matrix, places: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """``places`` (..., 2) through the transform."""
    return np.asarray(places, float) @ matrix[:2, :2].T + matrix[:2, 2]


def corners(box: Box) -> NDArray[np.floating[Any]]:
    """The centres of a box's (y, x) four corner pixels, (4, 2)."""
    (y, x), (h, w) = box.start, box.stop
    return np.array([[y, x], [y, w - 1], [h - 1, x], [h - 1, w - 1]], float)


def hull(matrix: Matrix, box: Box) -> Box:
    """The smallest box (y, x) that holds all that ``box`` becomes."""
    found = np.round(moved(matrix, corners(box)), 6)  # rounding errors must not add a row of pixels
    low, high = np.floor(found.min(0)), np.ceil(found.max(0)) + 1
    return Box((int(low[0]), int(low[1])), (int(high[0]), int(high[1])))


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all ``boxes``.

    >>> str(union([Box((0, 5), (2, 6)), Box((-1, 2), (1, 3))]))
    '-1:2,2:6'
    """
    starts, stops = zip(*((box.start, box.stop) for box in boxes), strict=True)
    return Box(tuple(map(min, zip(*starts, strict=True))), tuple(map(max, zip(*stops, strict=True))))


def apart(a: Matrix, b: Matrix, box: Box) -> float:
    """How far two transforms lead a corner of ``box`` apart, at most."""
    return float(np.hypot(*(moved(a, corners(box)) - moved(b, corners(box))).T).max())


def pull(image: NDArray[np.floating], matrix: Matrix, shape: Sequence[int]) -> NDArray[np.floating]:
    """``image`` (y, x) seen through a transform, interpolated linearly, also with the 0 outside."""
    result: NDArray[np.floating] = ndi.affine_transform(
        image, matrix[:2, :2], matrix[:2, 2], output_shape=tuple(shape), order=1, mode="grid-constant"
    )
    return result
