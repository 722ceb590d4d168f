"""A base that embeds, and a head that reads the embeddings.

image ── base (a U-Net) ── embedding ── head ── affinities or classes
embeddings, or pixels ───────────────── head ── ...                        without a base
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lamella.nets.around import without
from lamella.nets.heads import DenseHead, SparseHead
from lamella.nets.memory import channels_last
from lamella.nets.unet import UNet
from lamella.ops.points import Sampling, at_points

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]  # (b, k, *space); smaller than the image with valid convolutions


class HeadNet(nn.Module):
    """``base`` (named as in a contrast net, so that its weights fit) with a ``head`` of ``out_channels``.

    Sizes, context and stride are those of the base; without one, each voxel is read by itself. A ``frozen`` base keeps its weights
    and the statistics of its norms.
    """

    def __init__(
        self,
        base: UNet | None,
        head: DenseHead | SparseHead,
        *,
        ndim: int,
        in_channels: int,
        out_channels: int,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.base, self.head, self.frozen = base, head, frozen and base is not None
        self.ndim, self.in_channels, self.out_channels = ndim, in_channels, out_channels
        if base is not None and ndim == 2:
            channels_last(base)

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return (1,) * self.ndim if self.base is None else self.base.stride

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        return (0,) * self.ndim if self.base is None else self.base.context

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the maps are smaller than the image."""
        return (0,) * self.ndim if self.base is None else self.base.margin

    @property
    def seamless(self) -> bool:
        """Whether blocks with the context equal the whole."""
        return self.base is None or self.base.seamless

    def shown(self, tensor: Tensor) -> Tensor:
        """The part of a tensor ``(b, c, *space)`` as large as the image that the maps are of."""
        return without(tensor, self.margin)

    def train(self, mode: bool = True) -> HeadNet:
        super().train(mode)
        if self.frozen and self.base is not None:
            self.base.eval()
        return self

    def embed(self, image: Image) -> Maps:
        """What the head reads."""
        if self.base is None:
            return image
        if self.frozen:
            with torch.no_grad():
                return self.base(image).float()
        return self.base(image).float()

    def forward(self, image: Image) -> Maps:
        """Raw outputs (b, k, *space) of every voxel."""
        embeddings = self.embed(image)
        if isinstance(self.head, DenseHead):
            return self.head(embeddings).float()
        return self.head(embeddings.movedim(1, -1)).movedim(-1, 1).float()

    def at(self, image: Image, points: Float[Tensor, "b n d"], sampling: Sampling = "linear") -> Float[Tensor, "b n k"]:
        """Raw outputs at points alone, in voxels of the maps."""
        embeddings = self.embed(image)
        if isinstance(self.head, SparseHead):
            return self.head.at(embeddings, points, sampling).float()
        return at_points(self.head(embeddings).float(), points, sampling)

    def for_images(self) -> HeadNet:
        """The same function with a dense head."""
        if isinstance(self.head, DenseHead):
            return self
        made = HeadNet(
            self.base,
            self.head.dense(self.ndim),
            ndim=self.ndim,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            frozen=self.frozen,
        )
        return made.train(self.training)
