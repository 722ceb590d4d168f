"""A net that gives every voxel an embedding, and the projection through which it learns (Chen et al. 2020).

    image ── base ── embedding (h_channels) ── projection ── unit vector, for the loss alone

The projection is two linear layers by default. It is applied to the embeddings of points, not to whole maps, which for every voxel
would be the same as 1 x 1 convolutions.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.nets.around import Around
from lamella.nets.unet import UNet

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, h, *space); smaller than the image with valid convolutions


class ContrastNet(Around):
    """``base`` gives embeddings, ``projection`` layers of the given widths make of their ``learnt`` channels what is compared."""

    def __init__(self, base: UNet, widths: tuple[int, ...], learnt: int) -> None:
        super().__init__()
        self.base, self.learnt = base, learnt
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise((learnt, *widths))):
            layers += [nn.ReLU()] if number else []
            layers.append(nn.Linear(inputs, outputs))
        self.projection = nn.Sequential(*layers)
        self.keep_channels_last()

    @property
    def h_channels(self) -> int:
        return self.base.out_channels

    @property
    def inner(self) -> UNet:
        return self.base

    def forward(self, image: Image) -> Maps:
        """The embedding of every voxel."""
        return self.base(image).float()

    def project(self, embeddings: Float[Tensor, "n h"]) -> Float[Tensor, "n p"]:
        """Unit vectors to be compared."""
        return F.normalize(self.expand(embeddings), dim=1)

    def expand(self, embeddings: Float[Tensor, "n h"]) -> Float[Tensor, "n p"]:
        """What the projection gives, of any length."""
        return self.projection(embeddings).float()
