"""Heads: what reads embeddings, voxel by voxel.

    embedding ── layer ── ReLU ── layer ── outputs           as many layers as there are widths, and one more

A ``DenseHead`` is made of 1 x 1 convolutions and takes maps. A ``SparseHead`` is made of linear layers and takes lists of embeddings,
or maps with points; it never computes more than the points ask for. Both are the same function: ``SparseHead.dense`` copies its
weights, one for one, into a dense head for whole images. The law: at every voxel the two give the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.nets.blocks import Head
from lamella.ops.points import Sampling, at_points

Maps = Float[Tensor, "b _ ..."]


class _Widths(Config):
    """What both kinds of head are told."""

    hidden: tuple[int, ...] = Setting(
        (32,), description="widths of the layers between embedding and output; [] for none"
    )

    @model_validator(mode="after")
    def _check(self) -> _Widths:
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden {list(self.hidden)} must hold widths of at least 1")
        return self


class DenseHeadConfig(_Widths):
    """Convolutions over maps, to learn from densely labelled images."""

    kind: Literal["dense"] = "dense"

    def build(self, ndim: int, maps_in: int, maps_out: int) -> DenseHead:
        return DenseHead(ndim, (maps_in, *self.hidden, maps_out))


class SparseHeadConfig(_Widths):
    """Linear layers on embeddings at points, to learn from a handful of them."""

    kind: Literal["sparse"] = "sparse"

    def build(self, ndim: int, maps_in: int, maps_out: int) -> SparseHead:
        return SparseHead((maps_in, *self.hidden, maps_out))


HeadNetConfig = Annotated[DenseHeadConfig | SparseHeadConfig, Setting(discriminator="kind")]


class DenseHead(nn.Module):
    """Convolutions of one voxel between maps of the given ``widths``; their sums stay float32 in nets of lower precision."""

    def __init__(self, ndim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = _stacked([Head(ndim, a, b) for a, b in pairwise(widths)])

    def forward(self, embeddings: Maps) -> Maps:
        """Raw outputs (b, k, *space) of maps (b, h, *space)."""
        return self.layers(embeddings)


class SparseHead(nn.Module):
    """Linear layers between vectors of the given ``widths``."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.layers = _stacked([nn.Linear(a, b) for a, b in pairwise(widths)])

    def forward(self, embeddings: Float[Tensor, "... h"]) -> Float[Tensor, "... k"]:
        """Raw outputs of a list of embeddings, the channels last."""
        return self.layers(embeddings)

    def at(
        self, embeddings: Float[Tensor, "b h *space"], points: Float[Tensor, "b n d"], sampling: Sampling = "linear"
    ) -> Float[Tensor, "b n k"]:
        """Raw outputs at points alone, in voxels of the maps; see ``lamella.ops.points``."""
        return self(at_points(embeddings, points, sampling))

    def dense(self, ndim: int) -> DenseHead:
        """The same function for maps, with these weights."""
        made = DenseHead(ndim, self.widths)
        with torch.no_grad():
            for conv, linear in zip(list(made.layers)[::2], list(self.layers)[::2], strict=True):
                assert isinstance(conv, Head)
                assert isinstance(linear, nn.Linear)
                conv.conv.weight.copy_(linear.weight.reshape(conv.conv.weight.shape))
                conv.conv.bias.copy_(linear.bias)
        return made.to(next(self.parameters()).device)


def check_width(wanted: int, found: int, what: str) -> None:
    """Refuse embeddings of another number of channels than a head was made for."""
    if wanted != found:
        raise UserError(
            f"{what} have {found} channels, the head was made for {wanted}; give embeddings with h_channels {wanted}, or train "
            f"a head for {found}"
        )


def _stacked(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Layers with a ReLU between each two."""
    joined = [layers[0]]
    for layer in layers[1:]:
        joined += [nn.ReLU(), layer]
    return nn.Sequential(*joined)
