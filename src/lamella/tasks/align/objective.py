"""What the aligner learns from: similarity, smoothness and agreement, in pixel units, each a weighted mean.

A pair is a ``source`` and a ``target`` section (clean, for the loss) with ternary masks. ``field`` lives on the target grid at
the level that is being scored. All weights divide by their sums, so that a weight keeps its meaning when the size of the
images, the masks or the level changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor
from torch.nn import functional as F

from lamella.core.config import Config
from lamella.ops import masks
from lamella.ops.field import compose, halve, identity_grid, rotate180, warp
from lamella.ops.similarity import LocalCorrelation, Similarity, weighted_mean
from lamella.ops.smoothness import Jacobian, Smoothness

Map = Float[Tensor, "b 1 h w"]
Field = Float[Tensor, "b 2 h w"]
Encoding = Float[Tensor, "b c h w"]


class SimilarityTerm(Config):
    """How alike the aligned source and the target must be."""

    weight: float = Setting(1.0, ge=0, description="weight of the similarity penalty")
    penalty: Similarity = Setting(LocalCorrelation(), description="penalty per pixel: mse, ncc, ssim or encodings")
    near: float = Setting(5.0, ge=0, description="λ4: weight near a defect, against 1 on normal tissue")
    inside: float = Setting(0.0, ge=0, description="λ5: weight inside a defect")


class SmoothnessTerm(Config):
    """How little the field may bend."""

    weight: float = Setting(0.5, ge=0, description="λ1: weight of the smoothness penalty against similarity")
    penalty: Smoothness = Setting(Jacobian(), description="penalty per pixel: jacob, cjacob, lap, tv or rigidity")
    near: float = Setting(0.05, ge=0, description="λ2: weight near a defect, against 1 on normal tissue")
    inside: float = Setting(0.0, ge=0, description="λ3: weight inside a defect")
    radius: int = Setting(20, ge=0, description="pixels of the full size over which the weights change")


@dataclass(frozen=True)
class Pair:
    """Clean source and target with their masks (None without defects) and 1 where each may be compared."""

    source: Map
    target: Map
    source_valid: Map
    target_valid: Map
    source_mask: Map | None = None
    target_mask: Map | None = None

    def halved(self) -> Pair:
        """The pair one level coarser; a mask keeps its largest value, validity its share."""
        pooled = [
            None if m is None else F.max_pool2d(m, 2, ceil_mode=True) for m in (self.source_mask, self.target_mask)
        ]
        images = [
            _mean_of_present(i, v) for i, v in ((self.source, self.source_valid), (self.target, self.target_valid))
        ]
        valid = [(halve(v) >= 0.5).to(v.dtype) for v in (self.source_valid, self.target_valid)]
        return Pair(images[0], images[1], valid[0], valid[1], pooled[0], pooled[1])

    def at_level(self, level: int, *, restore_range: bool = True) -> Pair:
        """The pair ``level`` levels coarser, its dynamic range restored if asked (downsampling compresses it)."""
        pair = self
        for _ in range(level):
            pair = pair.halved()
        if not (restore_range and level):
            return pair
        images = [
            _restore_range(coarse, valid, fine, fine_valid)
            for coarse, valid, fine, fine_valid in (
                (pair.source, pair.source_valid, self.source, self.source_valid),
                (pair.target, pair.target_valid, self.target, self.target_valid),
            )
        ]
        return Pair(images[0], images[1], pair.source_valid, pair.target_valid, pair.source_mask, pair.target_mask)


def _mean_of_present(image: Map, valid: Map) -> Float[Tensor, "b 1 h2 w2"]:
    share = halve(valid)
    return torch.where(share > 0, halve(image * valid) / share.clamp_min(1e-6), halve(image))


def _moments(image: Map, valid: Map) -> tuple[Tensor, Tensor]:
    mass = valid.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (image * valid).sum((-2, -1), keepdim=True) / mass
    return mean, (((image - mean) ** 2 * valid).sum((-2, -1), keepdim=True) / mass).clamp_min(1e-8).sqrt()


def _restore_range(
    coarse: Map, coarse_valid: Map, fine: Float[Tensor, "b 1 hf wf"], fine_valid: Float[Tensor, "b 1 hf wf"]
) -> Map:
    """``coarse`` stretched to the standard deviation of ``fine`` about its own mean."""
    mean, std = _moments(coarse, coarse_valid)
    _, wanted = _moments(fine, fine_valid)
    return mean + (coarse - mean) * (wanted / std)


def similarity(
    term: SimilarityTerm, pair: Pair, field: Field, encodings: tuple[Encoding, Encoding] | None = None
) -> Float[Tensor, ""]:
    """The weighted similarity penalty of the source warped by ``field`` against the target.

    ``encodings`` of source and target, of the pair's size, are for penalties that compare those.
    """
    source, target = (pair.source, pair.target) if encodings is None else encodings
    moved = warp(source, field, padding="border")
    valid = masks.erode((warp(pair.source_valid, field) > 0.99).to(field.dtype) * pair.target_valid, 1)
    moved_mask = None if pair.source_mask is None else masks.warp_mask(pair.source_mask, field)
    weights = masks.similarity_weights(pair.target_mask, moved_mask, valid, near=term.near, inside=term.inside)
    return weighted_mean(term.penalty(moved, target, valid), weights.detach())


def smoothness(term: SmoothnessTerm, pair: Pair, field: Field, level: int) -> Float[Tensor, ""]:
    """The weighted smoothness penalty of ``field``; weights are made on the source and carried along."""
    weights = torch.ones_like(pair.target)
    if pair.source_mask is not None:
        radius = max(1, round(term.radius / 2**level)) if term.radius else 0
        at_source = masks.smoothness_weights(
            pair.source_mask, pair.source_valid, near=term.near, inside=term.inside, radius=radius
        )
        weights = warp(at_source, field, padding="border").detach()
    return weighted_mean(term.penalty(field), weights)


def distance(a: Field, b: Field, weights: Map, scale: float = 1.0) -> Float[Tensor, ""]:
    """Mean distance of two fields in pixels times ``scale``, smooth at zero (Charbonnier)."""
    gap = ((a - b).square().sum(1, keepdim=True) * scale**2 + 1e-2).sqrt() - 0.1
    return weighted_mean(gap, weights)


def looks_inside(field: Field, margin: float = 0.0) -> Map:
    """1 where a field looks at a pixel of the image, ``margin`` pixels from its edge."""
    h, w = field.shape[-2:]
    where = identity_grid(h, w, like=field) + field
    inside = (where[:, 0] >= margin) & (where[:, 0] <= h - 1 - margin)
    inside &= (where[:, 1] >= margin) & (where[:, 1] <= w - 1 - margin)
    return inside[:, None].to(field.dtype)


def consensus(field: Field, rotated: Field, valid: Map, scale: float = 1.0) -> Float[Tensor, ""]:
    """Distance of a pair's field from that of the pair turned by 180°, turned back (seed 001; it removes drift)."""
    return distance(field, rotate180(rotated), valid, scale)


def round_trip(forward: Field, backward: Field, valid: Map, scale: float = 1.0) -> Float[Tensor, ""]:
    """Distance of forward followed by backward from standing still."""
    back = compose(backward, forward)
    return distance(back, torch.zeros_like(back), valid * looks_inside(forward), scale)
