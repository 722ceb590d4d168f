"""What nets that give maps learn from, map by map, as means over the voxels that count.

A map's weight keeps its meaning whatever the size of the batch and however much of it is annotated, since every mean divides by
the sum of ``valid``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Map = Float[Tensor, "b 1 *space"]
Scalar = Float[Tensor, ""]


def mean(values: Map, valid: Map) -> Scalar:
    """The mean where ``valid`` says; 0 if that is nowhere."""
    return (values * valid).sum() / valid.sum().clamp_min(1e-6)


def cross_entropy(logits: Map, target: Map, valid: Map) -> Scalar:
    """Cross entropy with a target from 0 to 1; of a distance it is least where the prediction equals the target, as for a class."""
    return mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid)


def dice(logits: Map, target: Map, valid: Map) -> Scalar:
    """One minus the Dice overlap of the whole batch (Milletari et al. 2016): blind to how rare objects are."""
    probability, target = torch.sigmoid(logits) * valid, target * valid
    return 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)


def overlap(probability: Map, target: Map, valid: Map) -> Scalar:
    """Soft intersection over union, smoothed by one voxel, as the mean over the batch."""
    axes = tuple(range(1, target.ndim))
    probability, target = probability * valid, target * valid
    both = (probability * target).sum(axes)
    return ((both + 1) / (probability.sum(axes) + target.sum(axes) - both + 1)).mean()
