"""A net that gives, for each target, an image: raw outputs, and the last activation that makes intensities of them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.nets.memory import channels_last
from lamella.nets.stack_unet import StackUNet
from lamella.nets.unet import UNet

Final = Literal["none", "sigmoid", "relu", "softplus", "tanh"]
Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, targets [* depth], *space); smaller than the image with valid convolutions


class TranslateNet(nn.Module):
    """``net``, whose raw outputs ``finish`` makes predictions of.

    Sizes, context and stride are those of ``net``. On a CPU its 2D convolutions keep channels last, which saves a fifth of the time.
    """

    def __init__(self, net: UNet | StackUNet, final: Final) -> None:
        super().__init__()
        self.net, self.final = net, final
        if net.config.ndim == 2:
            channels_last(self.net)

    @property
    def in_channels(self) -> int:
        return self.net.in_channels

    @property
    def out_channels(self) -> int:
        return self.net.out_channels

    @property
    def ndim(self) -> int:
        return self.net.config.ndim

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return self.net.stride

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        return self.net.context

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the output is smaller than the image."""
        return self.net.margin

    @property
    def seamless(self) -> bool:
        """Whether blocks with the context equal the whole."""
        return self.net.seamless

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
