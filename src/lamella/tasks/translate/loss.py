"""What a translation net learns from: a sum of terms, each a mean under weights, of each sample and channel by itself.

| name | is |
|---|---|
| ``mae``, ``mse`` | absolute and squared difference |
| ``dssim-l1`` | 0.8 (1 - S) / 2 + 0.2 MAE, S being SSIM |
| ``ms-ssim-l1`` | 0.84 (1 - MS-SSIM) + 0.16 MAE (Zhao et al. 2017) |
| ``half`` | half MAE, half 1 - MS-SSIM with uniform windows of 11 pixels |
| ``bce``, ``dice``, ``bce-dice`` | of segmentations |
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from lamella.core.config import Config
from lamella.ops import fidelity
from lamella.ops.fidelity import SCALES, Window, least_side, window_sides

Maps = Float[Tensor, "b c *space"]
Scalar = Float[Tensor, ""]
Kind = Literal["mae", "mse", "dssim", "ms_dssim", "correlation", "bce", "dice"]

OF_LOGITS: tuple[Kind, ...] = ("bce", "dice")


class Term(Config):
    """One part of a loss, and how much it counts."""

    kind: Kind = Setting(
        description="mae, mse; dssim: (1 - SSIM) / 2; ms_dssim: 1 - MS-SSIM; correlation: 1 - r; bce, dice: of segmentations"
    )
    weight: float = Setting(1.0, gt=0, description="how much it counts")
    window: Window = Setting("gaussian", description="of SSIM: gaussian (sigma 1.5) or uniform")
    size: int | None = Setting(None, ge=3, description="side of the window of SSIM; 11, or 7 if it is uniform")
    scales: int = Setting(5, ge=1, le=5, description="of MS-SSIM, each half as fine as the one before")

    @property
    def least(self) -> int:
        """The least side of an image in the plane."""
        return {"dssim": self.side, "ms_dssim": least_side(self.scales, self.side)}.get(self.kind, 1)

    @property
    def side(self) -> int:
        """Of the windows of SSIM, which are flat: slices are farther apart than pixels."""
        return window_sides(self.window, self.size, 1)[0]

    def __call__(self, raw: Maps, prediction: Maps, target: Maps, weight: Maps) -> Scalar:
        """``raw`` is what the net gave, ``prediction`` that with its last activation."""
        return fidelity.over_samples(self._each(raw, prediction, target, weight), weight)

    def _each(self, raw: Maps, prediction: Maps, target: Maps, weight: Maps) -> Float[Tensor, "b c"]:
        windows: dict[str, Any] = {"window": self.window, "size": (*[1] * (target.ndim - 4), self.side, self.side)}
        if self.kind == "mae":
            return fidelity.weighted((prediction - target).abs(), weight)
        if self.kind == "mse":
            return fidelity.weighted((prediction - target) ** 2, weight)
        if self.kind == "dssim":
            return (1 - fidelity.ssim(prediction, target, weight, **windows)) / 2
        if self.kind == "ms_dssim":
            powers = [power / sum(SCALES[: self.scales]) for power in SCALES[: self.scales]]
            return 1 - fidelity.ms_ssim(prediction, target, weight, scales=powers, **windows)
        if self.kind == "correlation":
            return 1 - fidelity.pearson(prediction, target, weight)
        if self.kind == "bce":
            return fidelity.weighted(F.binary_cross_entropy_with_logits(raw, target, reduction="none"), weight)
        return 1 - fidelity.dice(torch.sigmoid(raw), target, weight)


NAMED: dict[str, tuple[Term, ...]] = {
    "mae": (Term(kind="mae"),),
    "mse": (Term(kind="mse"),),
    "dssim-l1": (Term(kind="dssim", weight=0.8), Term(kind="mae", weight=0.2)),
    "ms-ssim-l1": (Term(kind="ms_dssim", weight=0.84), Term(kind="mae", weight=0.16)),
    "half": (Term(kind="mae", weight=0.5), Term(kind="ms_dssim", weight=0.5, window="uniform", size=11)),
    "bce": (Term(kind="bce"),),
    "dice": (Term(kind="dice"),),
    "bce-dice": (Term(kind="bce"), Term(kind="dice")),
}


class LossConfig(Config):
    """The terms of a loss; a name of the table stands for its terms."""

    terms: tuple[Term, ...] = Setting(min_length=1, description="added up, each with its weight")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if not isinstance(values, str):
            return values
        if values not in NAMED:
            raise ValueError(f"loss {values!r} is not known; choose one of {', '.join(NAMED)}, or give terms")
        return {"terms": NAMED[values]}

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        kinds = [term.kind for term in self.terms]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"terms {kinds} name one twice; give each kind once")
        if len({kind in OF_LOGITS for kind in kinds}) > 1:
            raise ValueError(f"terms {kinds} mix those of segmentations ({', '.join(OF_LOGITS)}) with others")
        return self

    @property
    def of_segmentation(self) -> bool:
        return self.terms[0].kind in OF_LOGITS

    @property
    def least(self) -> int:
        """The least side of an image in the plane that all terms take."""
        return max(term.least for term in self.terms)

    def __call__(self, raw: Maps, prediction: Maps, target: Maps, weight: Maps) -> dict[str, Scalar]:
        """Each term as ``loss_KIND``, and their weighted sum as ``total``."""
        values = [term(raw, prediction, target, weight) for term in self.terms]
        total = torch.stack([term.weight * value for term, value in zip(self.terms, values, strict=True)]).sum()
        return {"total": total, **{f"loss_{t.kind}": value for t, value in zip(self.terms, values, strict=True)}}
