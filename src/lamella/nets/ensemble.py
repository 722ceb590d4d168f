"""Several nets as one: each sees the image, and what they give is averaged, which errs less than any one of them does (Hansen and
Salamon 1990; of deep nets Lakshminarayanan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lamella.core.errors import UserError

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]


class Ensemble(nn.Module):
    """The mean of the raw outputs of ``nets``, which see and give the same channels and may be of any size and depth.

    Its ``stride`` and ``context`` are such that they hold for each of them, its ``config`` is that of the first. It costs what all of them cost.
    UserError for nets that cut off margins of different width.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        margins = {tuple(margin) for margin in self._each("margin")}
        if len(margins) > 1:
            raise UserError(
                f"nets that cut off margins of {sorted(margins)} pixels cannot be averaged; train them with task.net.padding=same, or "
                "with the same task.net"
            )

    def forward(self, image: Image) -> Maps:
        total: Tensor = sum(net(image).float() for net in self.nets)
        return total / len(self.nets)

    def _each(self, name: str) -> list[Any]:
        return [getattr(net, name) for net in self.nets]

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
        return tuple(lcm(*sizes) for sizes in zip(*self._each("stride"), strict=True))

    @property
    def context(self) -> tuple[int, ...]:
        return tuple(max(sizes) for sizes in zip(*self._each("context"), strict=True))

    @property
    def margin(self) -> tuple[int, ...]:
        return tuple(self._first.margin)

    @property
    def seamless(self) -> bool:
        return all(self._each("seamless"))
