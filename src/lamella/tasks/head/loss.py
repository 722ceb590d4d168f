"""What a head learns from, as means over what counts.

Every mean divides by the sum of its weights, so that a rate keeps its meaning whatever the size of a batch and however much of it
is labelled.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Maps = Float[Tensor, "b n *space"]
Scalar = Float[Tensor, ""]


def of_affinities(raw: Maps, target: Maps, valid: Maps, kind: Literal["mse", "bce"]) -> Scalar:
    """Mean squared error of the sigmoid, or cross entropy, of affinities that are known."""
    if kind == "mse":
        values = (torch.sigmoid(raw) - target).square()
    else:
        values = F.binary_cross_entropy_with_logits(raw, target, reduction="none")
    return (values * valid).sum() / valid.sum().clamp_min(1e-6)


def of_classes(
    raw: Float[Tensor, "n k"], classes: Int[Tensor, " n"], *, balanced: bool, weights: Float[Tensor, " n"] | None = None
) -> Scalar:
    """Mean cross entropy of a softmax; ``balanced``: the mean over the classes that occur, of their means. 0 of nothing."""
    values = F.cross_entropy(raw, classes, reduction="none")
    weights = torch.ones_like(values) if weights is None else weights
    if not balanced:
        return (values * weights).sum() / weights.sum().clamp_min(1e-6)
    counts = raw.new_zeros(raw.shape[1]).index_add_(0, classes, weights)
    share = weights / counts[classes].clamp_min(1e-6)
    return (values * share).sum() / (counts > 0).sum().clamp_min(1)
