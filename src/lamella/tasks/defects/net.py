"""The net of the detector: a U-Net that sees slightly smoothed sections and tells of each pixel what has happened to it."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.nets.unet import UNet

Defect = Literal["crack", "fold", "cover"]
DEFECTS: tuple[Defect, ...] = ("crack", "fold", "cover")

Section = Float[Tensor, "b 1 h w"]
Logits = Float[Tensor, "b _ h w"]


class DefectNet(nn.Module):
    """``net`` with one output per kind of defect, behind a fixed 3 x 3 smoothing that leaves missing data (0) out.

    The kernel has 1 - ``smoothing`` in its centre, a sixth of ``smoothing`` beside and a twelfth of it across.
    """

    kernel: Tensor

    def __init__(self, net: UNet, smoothing: float, kinds: tuple[Defect, ...]) -> None:
        super().__init__()
        self.net, self.kinds = net, kinds
        aside, across = smoothing / 6, smoothing / 12
        rows = [[across, aside, across], [aside, 1 - smoothing, aside], [across, aside, across]]
        self.register_buffer("kernel", torch.tensor(rows)[None, None], persistent=False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return self.net.stride

    @property
    def context(self) -> tuple[int, ...]:
        """Pixels on each side that an output pixel depends on."""
        return tuple(n + 1 for n in self.net.context)

    @property
    def margin(self) -> tuple[int, ...]:
        """Pixels per side by which the maps are smaller than the section."""
        return self.net.margin

    @property
    def seamless(self) -> bool:
        """Whether blocks with the context equal the whole."""
        return self.net.seamless

    def forward(self, section: Section) -> Logits:
        """Logits: probabilities are their sigmoid."""
        return self.net(self.smoothed(section)).float()

    def smoothed(self, section: Section) -> Section:
        """The section as the net sees it: 0 where data are missing, the mean of what is there elsewhere."""
        there = (section > 0).to(section.dtype)
        mass = F.conv2d(there, self.kernel.to(section.dtype), padding=1)
        return F.conv2d(section, self.kernel.to(section.dtype), padding=1) / mass.clamp_min(1e-6) * there
