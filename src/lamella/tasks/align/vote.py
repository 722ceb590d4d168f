"""Voting between several fields for one section: what most of them agree on, so that one bad section does not propagate.

After Mitchell et al. (arXiv 1904.02643) and Popovych et al. (petascale pipeline, Nat. Commun. 2024): every subset that holds a
majority of the candidates is weighed by how close its members lie, and the vote is the mean of the subsets. Here candidates bring
weights, so that one that is known to be worth nothing has no vote.
"""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Candidates = Float[Tensor, "n 2 h w"]
Weights = Float[Tensor, "n 1 h w"]

_LEAST = 1e-6  # weight below which a candidate counts as none


def vote(candidates: Candidates, weights: Weights, temperature: float) -> Float[Tensor, "2 h w"]:
    """The field that the majority of the candidates agree on, pixel by pixel; 0 where none has weight.

    A subset of more than half of the candidates weighs ``exp(-d / temperature)``, ``d`` being the mean distance of its members,
    times the product of their weights; its vote is their mean by weight. Where fewer have weight, a majority is one of those.

    >>> fields = torch.tensor([1.0, 1.0, 9.0]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    >>> vote(fields, torch.ones(3, 1, 1, 1), 0.1).flatten().tolist()
    [1.0, 1.0]
    """
    num = len(candidates)
    counted = (weights > _LEAST).sum(0)
    result = torch.zeros_like(candidates[0])
    for present in range(1, num + 1):
        chosen = counted == present
        if chosen.any():
            result = torch.where(chosen, _of_subsets(candidates, weights, temperature, present // 2 + 1), result)
    return result


def _of_subsets(candidates: Candidates, weights: Weights, temperature: float, size: int) -> Float[Tensor, "2 h w"]:
    logits, means = [], []
    for subset in combinations(range(len(candidates)), size):
        members, mass = candidates[list(subset)], weights[list(subset)]
        logits.append(-_spread(members) / temperature + mass.clamp_min(1e-30).log().sum(0))
        means.append((members * mass).sum(0) / mass.sum(0).clamp_min(1e-30))
    share = torch.softmax(torch.stack(logits), 0)
    return (share * torch.stack(means)).sum(0)


def _spread(members: Candidates) -> Float[Tensor, "1 h w"]:
    """The mean distance between two of the members."""
    pairs = list(combinations(range(len(members)), 2))
    if not pairs:
        return torch.zeros_like(members[0, :1])
    distances = [(members[a] - members[b]).square().sum(0, keepdim=True).sqrt() for a, b in pairs]
    return torch.stack(distances).mean(0)


def filled(field: Float[Tensor, "n c h w"], weight: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h w"]:
    """``field`` where it has weight, and what lies around elsewhere: coarser and coarser weighted means, down to the whole's.

    A pixel of weight 1 keeps its vector, one of weight 0 has that of the surroundings; where nothing has weight it is 0.
    """
    weight = weight.clamp(0, 1)
    h, w = field.shape[-2:]
    if max(h, w) == 1:
        return torch.where(weight > 0, field, 0)
    mass = F.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(field * weight, 2, ceil_mode=True, count_include_pad=False) / mass.clamp_min(1e-12)
    around = F.interpolate(filled(mean, (4 * mass).clamp_max(1)), scale_factor=2, mode="bilinear", align_corners=False)
    return weight * field + (1 - weight) * around[..., :h, :w]
