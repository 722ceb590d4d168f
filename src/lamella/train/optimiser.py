"""Optimisers: PyTorch's, with their settings as configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lamella.core.config import Config

if TYPE_CHECKING:
    import torch

Groups = list[dict[str, Any]]


class Adam(Config):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""

    kind: Literal["adam"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(
            groups, learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=_fused(groups)
        )


class AdamW(Config):
    """AdamW (Loshchilov and Hutter 2019); weight decay shrinks the weights directly."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(
            groups, learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=_fused(groups)
        )


def _fused(groups: Groups) -> bool | None:
    """On a CPU one kernel does the step in a quarter of the time of PyTorch's choice, which elsewhere is a good one."""
    on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    return True if on_cpu else None


OptimiserConfig = Annotated[Adam | AdamW, Field(discriminator="kind")]
