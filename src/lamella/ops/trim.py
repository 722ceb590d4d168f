"""Trim whole images to one size, as nets of a fixed input size want it, and take the trimming back.

| kind | image | labels | what counts |
|---|---|---|---|
| ``resize`` | interpolated to the size, so pixels change their size and perhaps their shape | nearest voxel | nearest voxel |
| ``padding`` | in the middle of zeros | in the middle of zeros | 0 around the image |
| ``reflect`` | in the middle of its own reflection | mirrored with it | 0 around the image |

``untrim(trim(array)) == array`` for ``padding`` and ``reflect``. Training and prediction use the same two functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from pydantic import Field, field_validator
from skimage.transform import resize

from lamella.core.config import Config
from lamella.core.errors import UserError

What = Literal["image", "labels", "valid"]
Array = Shaped[np.ndarray, "*lead_and_space"]
Trimmed = Shaped[np.ndarray, "*lead_and_trimmed"]


class _Trim(Config):
    im_dim: int | tuple[int, ...] = Field(256, description="side of the square (cube), or one size for each axis")

    @field_validator("im_dim")
    @classmethod
    def _check(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        sides = (value,) if isinstance(value, int) else value
        if len(sides) not in (1, 2, 3) or min(sides) < 1:
            raise ValueError("give one side of at least 1 pixel, or one for each axis")
        return value

    def shape(self, ndim: int) -> tuple[int, ...]:
        """The size that images of ``ndim`` axes are trimmed to."""
        if isinstance(self.im_dim, int):
            return (self.im_dim,) * ndim
        if len(self.im_dim) != ndim:
            raise UserError(f"trim.im_dim {list(self.im_dim)} has {len(self.im_dim)} sides, the images {ndim} axes")
        return self.im_dim


class Resize(_Trim):
    """Interpolate to the size."""

    kind: Literal["resize"] = "resize"


class Padding(_Trim):
    """Fill up with zeros."""

    kind: Literal["padding"] = "padding"


class Reflect(_Trim):
    """Fill up with the mirrored image."""

    kind: Literal["reflect"] = "reflect"


TrimConfig = Annotated[Resize | Padding | Reflect, Field(discriminator="kind")]


def trim(array: Array, method: TrimConfig, ndim: int, what: What = "image") -> Trimmed:
    """``array`` (..., *space) of ``ndim`` spatial axes with its space of the method's size, dtype kept.

    ``what`` it is decides how it is interpolated and filled, see the module.
    """
    target, space = method.shape(ndim), array.shape[-ndim:]
    if isinstance(method, Resize):
        return _resized(array, target, what)
    before, after = _margins(space, target)
    width = [(0, 0)] * (array.ndim - ndim) + list(zip(before, after, strict=True))
    if isinstance(method, Reflect) and what != "valid":
        return np.pad(array, width, mode="reflect")
    return np.pad(array, width)


def untrim(array: Trimmed, method: TrimConfig, space: Sequence[int], what: What = "image") -> Array:
    """What stands for an image of size ``space`` in ``array`` (..., *trimmed space), at the image's own size."""
    if isinstance(method, Resize):
        return _resized(array, tuple(space), what)
    before, _ = _margins(space, array.shape[-len(space) :])
    inner = tuple(slice(b, b + n) for b, n in zip(before, space, strict=True))
    return array[(slice(None),) * (array.ndim - len(space)) + inner]


def check_fits(method: TrimConfig, space: Sequence[int]) -> None:
    """Raise UserError for an image of size ``space`` that the method cannot trim."""
    target = method.shape(len(space))
    if not isinstance(method, Resize):
        _margins(space, target)


def _margins(space: Sequence[int], target: Sequence[int]) -> tuple[list[int], list[int]]:
    """Voxels to add before and after each axis; the odd one goes after."""
    if any(n > t for n, t in zip(space, target, strict=True)):
        sizes = " x ".join(map(str, space)), " x ".join(map(str, target))
        raise UserError(
            f"an image of {sizes[0]} does not fit into trim.im_dim {sizes[1]}; raise im_dim, or use kind resize, or leave trim "
            "out to train on crops"
        )
    before = [(t - n) // 2 for n, t in zip(space, target, strict=True)]
    return before, [t - n - b for n, t, b in zip(space, target, before, strict=True)]


def _resized(array: NDArray[Any], target: tuple[int, ...], what: What) -> NDArray[Any]:
    space = array.shape[-len(target) :]
    if space == target:
        return array
    if what != "image":
        for axis, (old, new) in enumerate(zip(space, target, strict=True), start=array.ndim - len(target)):
            nearest = ((np.arange(new) + 0.5) * old / new).astype(np.intp)
            array = array.take(nearest, axis=axis)
        return array
    shrinks = any(new < old for old, new in zip(space, target, strict=True))
    flat: NDArray[Any] = array.reshape(-1, *space)
    planes = [resize(p, target, order=1, mode="edge", anti_aliasing=shrinks, preserve_range=True) for p in flat]
    return np.stack(planes).reshape(*array.shape[: -len(target)], *target).astype(array.dtype)
