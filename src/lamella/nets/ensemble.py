"""Several nets as one: each sees the image, and what they give is averaged, which errs less than any one of them does (Hansen and
Salamon 1990; of deep nets Lakshminarayanan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]


class Ensemble(nn.Module):
    """The mean of the raw outputs of ``nets``, which are built alike and differ in their weights only.

    For the rest it is what each of them is: ``config``, ``stride``, ``context`` and so on. It costs what all of them cost.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, image: Image) -> Maps:
        total: Tensor = sum(net(image).float() for net in self.nets)
        return total / len(self.nets)

    @property
    def _first(self) -> Any:
        return self.nets[0]

    @property
    def config(self) -> Any:
        return self._first.config

    @property
    def in_channels(self) -> int:
        return int(self._first.in_channels)

    @property
    def out_channels(self) -> int:
        return int(self._first.out_channels)

    @property
    def stride(self) -> tuple[int, ...]:
        return tuple(self._first.stride)

    @property
    def context(self) -> tuple[int, ...]:
        return tuple(self._first.context)

    @property
    def margin(self) -> tuple[int, ...]:
        return tuple(self._first.margin)

    @property
    def seamless(self) -> bool:
        return bool(self._first.seamless)
