"""A net that gives every voxel an embedding, and the projection through which it learns (Chen et al. 2020).

    image ── base ── embedding (h_channels) ── projection ── unit vector, for the loss alone

The projection is two linear layers by default. It is applied to the embeddings of points, not to whole maps, which for every voxel
would be the same as 1 x 1 convolutions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.nets.unet import UNet

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, h, *space); smaller than the image with valid convolutions


class ContrastNet(nn.Module):
    """``base`` gives embeddings, ``projection`` layers of the given widths make of them what is compared.

    Sizes, context and stride are those of ``base``. On a CPU its 2D convolutions keep channels last, which saves a fifth of the time.
    """

    def __init__(self, base: UNet, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.base = base
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise((base.out_channels, *widths))):
            layers += [nn.ReLU()] if number else []
            layers.append(nn.Linear(inputs, outputs))
        self.projection = nn.Sequential(*layers)
        if base.config.ndim == 2:
            base.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def h_channels(self) -> int:
        return self.base.out_channels

    @property
    def ndim(self) -> int:
        return self.base.config.ndim

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return self.base.stride

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the embeddings are fewer than the image's voxels."""
        return self.base.margin

    def forward(self, image: Image) -> Maps:
        """The embedding of every voxel."""
        return self.base(image).float()

    def project(self, embeddings: Float[Tensor, "n h"]) -> Float[Tensor, "n p"]:
        """Unit vectors to be compared."""
        return F.normalize(self.expand(embeddings), dim=1)

    def expand(self, embeddings: Float[Tensor, "n h"]) -> Float[Tensor, "n p"]:
        """What the projection gives, of any length."""
        return self.projection(embeddings).float()
