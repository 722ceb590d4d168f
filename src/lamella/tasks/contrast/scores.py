"""How good embeddings are, told without labels, and whether they have collapsed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Points = Float[Tensor, "n c"]
Scalar = Float[Tensor, ""]

_MOST = 2000  # points that are looked for among each other


def spread(embeddings: Points) -> Scalar:
    """Standard deviation of the directions of embeddings, from 0 (all the same: collapsed) to 1; 0 of none."""
    if not len(embeddings):
        return embeddings.sum()
    mean = F.normalize(embeddings.float(), dim=1).mean(0)
    return (1 - mean.square().sum()).clamp_min(0).sqrt()


def alike(first: Points, second: Points) -> Scalar:
    """Mean product of partners, 1 where both views of every place have one embedding."""
    return (first * second).sum() / max(len(first), 1)


def recalled(first: Points, second: Points) -> Scalar:
    """The share of places whose nearest embedding in the other view is their own, among at most 2 000."""
    first, second = first[:_MOST], second[:_MOST]
    if not len(first):
        return first.new_zeros(())
    nearest = (first @ second.T).argmax(1)
    return (nearest == torch.arange(len(first), device=first.device)).float().mean()


def dimensions(embeddings: Points) -> Scalar:
    """How many channels the embeddings really use: (sum of variances)^2 / sum of their squares, along principal axes.

    From 1, all on a line, to the number of channels, spread evenly; 0 of a single place.
    """
    centred = embeddings.float() - embeddings.float().mean(0)
    covariance = centred.T @ centred
    return covariance.trace().square() / covariance.square().sum().clamp_min(1e-30)
