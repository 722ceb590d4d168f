"""A net whose outputs are maps: where objects are, where they end, how deep inside its object a voxel lies."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lamella.nets.around import Around
from lamella.nets.dcan import Dcan
from lamella.nets.ensemble import Ensemble
from lamella.nets.unet import UNet

Head = Literal["objects", "boundaries", "distance"]
HEADS: tuple[Head, ...] = ("objects", "boundaries", "distance")

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, heads, *space); smaller than the image with valid convolutions


class SegmentNet(Around):
    """``net`` with one output per head, in the order of ``heads``."""

    def __init__(self, net: UNet | Dcan | Ensemble, heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.net, self.heads = net, heads
        self.keep_channels_last()

    @property
    def inner(self) -> UNet | Dcan | Ensemble:
        return self.net

    def forward(self, image: Image) -> Maps:
        """Logits: the maps are their sigmoid."""
        return self.net(image).float()

    def maps(self, image: Image) -> Maps:
        """Probabilities of objects and boundaries, and the distance relative to the depth of the object, from 0 to 1."""
        return torch.sigmoid(self(image))

    def with_levels(self, image: Image) -> tuple[Maps, list[Maps]]:
        """Logits, and those of each single level for nets with deep supervision."""
        if isinstance(self.net, Dcan):
            fused, levels = self.net.outputs(image)
            return fused.float(), [level.float() for level in levels]
        return self(image), []
