"""NT-Xent, the loss of SimCLR (Chen et al. 2020), for places of an image: each is seen in two views, and its two embeddings are to
be more like each other than like those of any other place.

    L = mean over u of  log S_u - <u, v> / t,     S_u = sum over w != u of exp(<u, w> / t)

where u goes through all 2n embeddings, v is its partner in the other view, and w through all others, those of u's own view
included. t is the temperature. The products are taken as they are: normalise embeddings to unit length before, unless you mean
otherwise.

The 2n x 2n products are made and forgotten a few rows at a time, in the forward pass for S and in the backward pass, from S alone,
for the gradient, so that memory grows with n and not with its square. Nothing is left out: the gradient is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lamella.core.errors import UserError

Points = Float[Tensor, "n c"]

_PRODUCTS = 1 << 23  # held at a time; 32 MiB of float32


def nt_xent(first: Float[Tensor, "n c"], second: Float[Tensor, "m c"], temperature: float) -> Float[Tensor, ""]:
    """The loss of n places by their embeddings in two views, row k of both being one place; 0 for no place and for one.

    In float32, whatever the precision around it.

    >>> opposite = torch.tensor([[1.0], [1.0]]), torch.tensor([[-1.0], [-1.0]])
    >>> round(nt_xent(*opposite, temperature=1.0).item(), 4)        # ln(2 + e^2)
    2.2395
    """
    if first.shape != second.shape:
        raise UserError(f"two views of {tuple(first.shape)} and {tuple(second.shape)}; they must be of the same places")
    if not temperature > 0:
        raise UserError(f"temperature {temperature} must be above 0, for example 0.1")
    embeddings = torch.cat([first, second])
    if not len(first):
        return embeddings.float().sum()
    loss: Tensor = _NtXent.apply(embeddings, temperature)
    return loss


class _NtXent(torch.autograd.Function):
    """The loss of embeddings ``(2n, c)``, of which k and n + k are partners."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, temperature: float) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.detach().float()
            log_sums = torch.empty(len(x), dtype=x.dtype, device=x.device)
            for rows, products in _products(x, temperature):
                log_sums[rows] = products.logsumexp(1)
            loss = (log_sums - (x * _partners(x)).sum(1) / temperature).mean()
        ctx.save_for_backward(embeddings, log_sums)
        ctx.temperature = temperature
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """``sum over w of (P_uw + P_wu) w - 2 v`` over 2n t, where ``P_uw = exp(<u, w> / t) / S_u``."""
        embeddings, log_sums = ctx.saved_tensors
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.float()
            total = _partners(x).mul_(-2)
            for rows, products in _products(x, ctx.temperature):
                shares = torch.exp(products - log_sums[rows, None])
                shares += products.sub_(log_sums).exp_()
                total[rows] += shares @ x
            total *= gradient / (len(x) * ctx.temperature)
        return total.to(embeddings.dtype), None


def _products(x: Points, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Products of a few rows with all, over the temperature; minus infinity for each with itself."""
    scaled = x / temperature
    step = max(_PRODUCTS // len(x), 1)
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        products = scaled[rows] @ x.T
        products.diagonal(start).fill_(-torch.inf)
        yield rows, products


def _partners(x: Points) -> Points:
    return x.roll(len(x) // 2, 0)
