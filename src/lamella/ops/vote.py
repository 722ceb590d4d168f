"""Vector voting: one field from several estimates of it, so that a bad one is outvoted.

Every majority of the estimates (of three, each pair) is as trustworthy as its members are close to each other at that place; an
estimate weighs what the majorities that it belongs to weigh (Popovych et al., Nature Communications 15:289, 2024).
"""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def vote(fields: Float[Tensor, "n 2 h w"], temperature: float = 1.0, smooth: int = 0) -> Float[Tensor, "2 h w"]:
    """The weighted mean of an odd number of fields, weights by agreement.

    ``temperature`` is the distance in pixels at which agreement loses its weight: a majority whose members are that much further
    apart than the closest one weighs 1/e of it. Weights are averaged over ``smooth`` pixels around, so that the result does not
    break where the majority changes.
    """
    n = fields.shape[0]
    assert n % 2 == 1, f"{n} fields have no majority; give an odd number"
    if n == 1:
        return fields[0]
    majorities = list(combinations(range(n), n // 2 + 1))
    apart = torch.stack([_mean_distance(fields[list(m)]) for m in majorities])
    trust = torch.softmax(-apart / temperature, 0)
    if smooth:
        side = 2 * smooth + 1
        trust = F.avg_pool2d(trust[None], side, 1, smooth, count_include_pad=False)[0]
    means = torch.stack([fields[list(m)].mean(0) for m in majorities])
    return (trust[:, None] * means).sum(0)


def _mean_distance(fields: Float[Tensor, "m 2 h w"]) -> Float[Tensor, "h w"]:
    pairs = [(a - b).square().sum(0).sqrt() for a, b in combinations(fields, 2)]
    return torch.stack(pairs).mean(0)
