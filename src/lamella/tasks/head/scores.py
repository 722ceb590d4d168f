"""How well a head does on held-out samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

Scalar = Float[Tensor, ""]


def accuracy(raw: Float[Tensor, "n k"], classes: Int[Tensor, " n"], *, balanced: bool = False) -> Scalar:
    """The share of voxels or points whose most probable class is right; ``balanced``: the mean of the shares of each class."""
    right = (raw.argmax(1) == classes).float()
    if not balanced:
        return right.sum() / max(len(right), 1)
    counts = raw.new_zeros(raw.shape[1]).index_add_(0, classes, torch.ones_like(right))
    found = raw.new_zeros(raw.shape[1]).index_add_(0, classes, right)
    return (found / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)


def agreement(
    raw: Float[Tensor, "b n *space"], target: Float[Tensor, "b n *space"], valid: Float[Tensor, "b n *space"]
) -> Scalar:
    """Balanced accuracy of affinities at 0.5, where they are known: those that hold and those that do not count alike."""
    right = ((raw > 0) == (target > 0.5)).float()
    shares = [(right * where * valid).sum() / (where * valid).sum().clamp_min(1e-6) for where in (target, 1 - target)]
    there = [((where * valid).sum() > 0).float() for where in (target, 1 - target)]
    return (shares[0] * there[0] + shares[1] * there[1]) / (there[0] + there[1]).clamp_min(1)
