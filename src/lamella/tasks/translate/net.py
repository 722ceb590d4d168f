"""A net that gives, for each target, an image: raw outputs, and the last activation that makes intensities of them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.nets.around import Around
from lamella.nets.ensemble import Ensemble
from lamella.nets.stack_unet import StackUNet
from lamella.nets.unet import UNet

Final = Literal["none", "sigmoid", "relu", "softplus", "tanh"]
Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, targets [* depth], *space); smaller than the image with valid convolutions


class TranslateNet(Around):
    """``net``, whose raw outputs ``finish`` makes predictions of."""

    def __init__(self, net: UNet | StackUNet | Ensemble, final: Final) -> None:
        super().__init__()
        self.net, self.final = net, final
        self.keep_channels_last()

    @property
    def inner(self) -> UNet | StackUNet | Ensemble:
        return self.net

    @property
    def out_channels(self) -> int:
        return self.net.out_channels

    def forward(self, image: Image) -> Maps:
        """Raw outputs."""
        return self.net(image).float()

    def finish(self, raw: Maps) -> Maps:
        """The last activation."""
        return finished(raw, self.final)


def finished(raw: Maps, final: Final) -> Maps:
    """``raw`` outputs with the activation ``final``."""
    if final == "sigmoid":
        return torch.sigmoid(raw)
    if final == "tanh":
        return torch.tanh(raw)
    if final == "softplus":
        return F.softplus(raw)
    return F.relu(raw) if final == "relu" else raw
