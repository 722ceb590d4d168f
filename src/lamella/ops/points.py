"""Values of maps at points.

Points are in voxel coordinates in axes order ``z y x`` or ``y x``; voxel 3 has its centre at 3.0.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Sampling = Literal["linear", "nearest"]


def at_points(
    maps: Float[Tensor, "b c *space"], points: Float[Tensor, "b n d"], sampling: Sampling = "linear"
) -> Float[Tensor, "b n c"]:
    """The maps at each point: linear between voxels, or of the nearest voxel; beyond the outermost centres, those of the edge.

    >>> at_points(torch.tensor([[[[0.0, 10.0]]]]), torch.tensor([[[0.0, 0.25]]]))
    tensor([[[2.5000]]])
    """
    space = torch.tensor(maps.shape[2:], device=points.device)
    if sampling == "nearest":
        voxels = (points + 0.5).floor().long().clamp_min(0).minimum(space - 1)
        steps = torch.tensor([int(space[k + 1 :].prod()) for k in range(len(space))], device=points.device)
        index = (voxels * steps).sum(-1)
        return maps.flatten(2).gather(2, index.unsqueeze(1).expand(-1, maps.shape[1], -1)).transpose(1, 2)
    places = ((2 * points + 1) / space - 1).flip(-1)  # the image from -1 to 1, x first
    grid = places.reshape(len(points), *[1] * (len(space) - 1), points.shape[1], len(space)).to(maps.dtype)
    found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.flatten(2).transpose(1, 2)


def inside(points: Float[Tensor, "b n d"], space: tuple[int, ...]) -> Bool[Tensor, "b n"]:
    """Whether each point lies between centres of voxels of an image of size ``space``; NaN is nowhere."""
    last = torch.tensor(space, device=points.device) - 1
    return ((points >= 0) & (points <= last)).all(-1)
