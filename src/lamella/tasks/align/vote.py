"""Voting between several fields for one section: what most of them agree on, so that one bad section does not propagate.

After Mitchell et al. (arXiv 1904.02643) and Popovych et al. (Nat. Commun. 15, 289, 2024): every subset that holds a majority of the
candidates is weighed by how close its members lie, and the vote is the mean of the subsets. Here candidates bring weights, and a
majority is one of weight, so that one that is known to be worth nothing has no vote, and a sure one needs no second.
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
_EDGE = 0.02  # share of the weight, about one half, over which a subset becomes a majority


def vote(candidates: Candidates, weights: Weights, temperature: float) -> Float[Tensor, "2 h w"]:
    """The field that the majority of the candidates, by weight, agree on, pixel by pixel; 0 where none has weight.

    A subset counts by ``exp(-d / temperature)``, ``d`` being the mean distance of its members, if it holds more than half of the weight;
    its vote is their mean by weight. With equal weights of an odd number that is the published vote.

    >>> fields = torch.tensor([1.0, 1.0, 9.0]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    >>> vote(fields, torch.ones(3, 1, 1, 1), 0.1).flatten().round(decimals=2).tolist()
    [1.0, 1.0]
    """
    weights = torch.where(weights > _LEAST, weights, 0)
    total = weights.sum(0).clamp_min(_LEAST)
    logits, means = [], []
    for subset in _subsets(len(candidates)):
        members, mass = candidates[subset], weights[subset]
        held = mass.sum(0)
        logits.append(F.logsigmoid((held / total - 0.5) / _EDGE) - _spread(members, mass) / temperature)
        means.append((members * mass).sum(0) / held.clamp_min(_LEAST))
    share = torch.softmax(torch.stack(logits), 0)
    return (share * torch.stack(means)).sum(0)


def _subsets(num: int) -> list[list[int]]:
    return [list(subset) for size in range(1, num + 1) for subset in combinations(range(num), size)]


def _spread(members: Candidates, weights: Weights) -> Float[Tensor, "1 h w"]:
    """The mean distance between two of the members, each pair by the weight of the lighter."""
    total = mass = torch.zeros_like(weights[0])
    for a, b in combinations(range(len(members)), 2):
        weight = torch.minimum(weights[a], weights[b])
        total = total + weight * (members[a] - members[b]).square().sum(0, keepdim=True).sqrt()
        mass = mass + weight
    return total / mass.clamp_min(_LEAST)


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
