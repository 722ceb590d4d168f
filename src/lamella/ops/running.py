"""Means over windows that slide along, in the time of a few additions whatever their size.

A window of 7 is one of 1, one of 2 and one of 4 side by side, and a window of 4 is two of 2: along each axis there are about as many
additions as the window's side has binary digits, where pooling adds up every voxel of every window. The gradient is a running mean
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Maps = Float[Tensor, "b c *space"]
Windows = Float[Tensor, "b c ..."]


def running_mean(maps: Maps, sides: Sequence[int]) -> Windows:
    """The mean of every window of ``sides`` (one for each axis of space) that lies inside; each axis is ``side - 1`` shorter.

    ValueError if an axis has fewer voxels than its window.

    >>> running_mean(torch.tensor([[[1.0, 2.0, 6.0, 7.0]]]), (3,))
    tensor([[[3., 5.]]])
    """
    if any(n < side for n, side in zip(maps.shape[2:], sides, strict=True)):
        raise ValueError(f"windows of {tuple(sides)} do not fit into maps of {tuple(maps.shape[2:])}")
    found: Windows = _RunningMean.apply(maps, tuple(sides))
    return found


class _RunningMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, sides: tuple[int, ...]) -> Tensor:
        ctx.sides = sides
        for axis, side in enumerate(sides, 2):
            maps = _sums(maps, axis, side)
        return maps / prod(sides)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        pads = [side - 1 for side in reversed(ctx.sides) for _ in range(2)]
        return _RunningMean.apply(F.pad(gradients[0], pads), ctx.sides), None


def _sums(maps: Tensor, axis: int, side: int) -> Tensor:
    """Sums of ``side`` voxels in a row: the windows that are powers of two, and of them those that ``side`` is made of."""
    length = maps.shape[axis] - side + 1
    total: Tensor | None = None
    begin, width = 0, 1
    while True:
        if side & width:
            part = maps.narrow(axis, begin, length)
            total = part if total is None else total + part
            begin += width
        if 2 * width > side:
            assert total is not None
            return total
        rest = maps.shape[axis] - width
        maps = maps.narrow(axis, 0, rest) + maps.narrow(axis, width, rest)
        width *= 2
