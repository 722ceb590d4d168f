"""Crowded crops: the cells of a crop laid over it once more, mirrored or turned, so that many more touch.

Where few images are labelled, few cells touch, and it is there that nets run cells together. Laying cells over other cells
(Dwibedi et al. 2017; Ghiasi et al. 2021) makes such places, and a mirrored copy of the crop has cells of the same dye, focus and
light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.labelled import IMAGE, LABELS
from lamella.data.sample import Layer, Sample

_FULL = 0.5  # share of a crop that cells may cover; beyond it they touch anyway
_GLOW = 0.3  # share of the light of what lies below that shines through a cell


@dataclass(frozen=True)
class Copy:
    """How the copy lies: ``mirrored`` axes ``(d,)``, and whether y and x change places."""

    mirrored: NDArray[np.bool_]
    swapped: bool

    def __call__(self, tensor: Tensor) -> Tensor:
        """``(c, *space)`` as the copy has it."""
        moved = tensor.flip([axis for axis, mirrored in enumerate(self.mirrored, 1) if mirrored])
        return moved.transpose(-1, -2) if self.swapped else moved


def draw(rng: np.random.Generator, sample: Sample, share: float) -> list[Copy | None]:
    """For each crop of the batch how its copy lies; None for those, all but ``share``, that stay as they are."""
    square = sample.space[-1] == sample.space[-2]
    copies: list[Copy | None] = []
    for _ in range(sample.batch):
        happens, mirrored, swapped = rng.random() < share, rng.random(sample.ndim) < 0.5, rng.random() < 0.5
        if not mirrored.any() and not (square and swapped):
            mirrored[-1] = True  # never the crop itself
        copies.append(Copy(mirrored, bool(square and swapped)) if happens else None)
    return copies


def crowd(sample: Sample, copies: list[Copy | None]) -> Sample:
    """The crops with their copies laid over them.

    Cells of the copy hide those below. Elsewhere the brighter of the two is seen, so that what glows beside cells stays; in
    channels whose cells are darker than their surroundings, the darker. Weights are multiplied: where either is unknown, so is
    what lies there. Crops that cells fill to more than half stay as they are.
    """
    full = (sample[LABELS].tensor > 0).flatten(1).float().mean(1) > _FULL
    copies = [None if filled else copy for copy, filled in zip(copies, full.tolist(), strict=True)]
    if not any(copies):
        return sample
    return Sample({name: _laid(name, layer, sample, copies) for name, layer in sample.items()})


def _laid(name: str, layer: Layer, sample: Sample, copies: list[Copy | None]) -> Layer:
    made = []
    for below, labels, copy in zip(layer.tensor, sample[LABELS].tensor, copies, strict=True):
        if copy is None:
            made.append(below)
            continue
        above, cells = copy(below), copy(labels) > 0
        if name == IMAGE:
            made.append(_over(above, below, cells, labels > 0))
        elif name == LABELS:
            made.append(torch.where(cells, above + below.max(), below))
        else:
            made.append(above * below)
    return layer.with_tensor(torch.stack(made))


def _over(above: Tensor, below: Tensor, cells: Tensor, cells_below: Tensor) -> Tensor:
    """``above`` over ``below`` ``(c, *space)``, where ``cells`` and ``cells_below`` ``(1, *space)`` are those of each."""
    inside, outside = (below * where for where in (cells_below, ~cells_below))
    axes = tuple(range(1, below.ndim))
    bright = inside.sum(axes) * (~cells_below).sum() >= outside.sum(axes) * cells_below.sum()
    bright = bright.reshape(-1, *[1] * len(axes))
    above, below = (torch.where(bright, image, 1 - image) for image in (above, below))
    laid = torch.where(cells, above + _GLOW * below.clamp_min(0), torch.maximum(above, below))
    return torch.where(bright, laid, 1 - laid)
