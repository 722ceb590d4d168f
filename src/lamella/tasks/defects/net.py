"""The net of the detector: a U-Net that sees slightly smoothed sections and tells of each pixel what has happened to it."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.nets.around import Around
from lamella.nets.unet import UNet

Defect = Literal["crack", "fold", "cover"]
DEFECTS: tuple[Defect, ...] = ("crack", "fold", "cover")

Section = Float[Tensor, "b 1 h w"]
Logits = Float[Tensor, "b _ h w"]


class DefectNet(Around):
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
        self.keep_channels_last()

    @property
    def inner(self) -> UNet:
        return self.net

    @property
    def context(self) -> tuple[int, ...]:
        """Pixels on each side that an output pixel depends on: one more than the net's, for the smoothing."""
        return tuple(n + 1 for n in self.net.context)

    def forward(self, section: Section) -> Logits:
        """Logits: probabilities are their sigmoid."""
        return self.net(self.smoothed(section)).float()

    def smoothed(self, section: Section) -> Section:
        """The section as the net sees it: 0 where data are missing, the mean of what is there elsewhere."""
        there = (section > 0).to(section.dtype)
        mass = F.conv2d(there, self.kernel.to(section.dtype), padding=1)
        return F.conv2d(section, self.kernel.to(section.dtype), padding=1) / mass.clamp_min(1e-6) * there
