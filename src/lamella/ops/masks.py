"""Ternary defect masks, and the weights that the lambdas make of them.

Mask values: 0 normal, 1 near a defect, 2 inside one. Masks are tensors ``(b, 1, h, w)`` of floats that hold these values.
Union is the maximum, intersection the minimum, dilation max-pooling, erosion min-pooling. Weights are non-negative floats;
every loss divides by their sum, so their scale has no meaning but their ratios do.

An intensity of 0 means missing data, everywhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.field import warp

Map = Float[Tensor, "b c h w"]


def dilate(mask: Map, radius: int) -> Map:
    """The largest value within ``radius`` pixels (a square neighbourhood)."""
    if radius == 0:
        return mask
    side = 2 * radius + 1
    rows = F.max_pool2d(mask, (side, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(rows, (1, side), stride=1, padding=(0, radius))


def erode(mask: Map, radius: int) -> Map:
    """The smallest value within ``radius`` pixels (a square neighbourhood); outside the image does not count."""
    return -dilate(-mask, radius)


def close(mask: Map, radius: int) -> Map:
    """Dilate, then erode: fills holes narrower than ``2 * radius``."""
    return erode(dilate(mask, radius), radius)


def box_mean(values: Map, radius: int) -> Map:
    """The mean within ``radius`` pixels, over what exists."""
    if radius == 0:
        return values
    side = 2 * radius + 1
    rows = F.avg_pool2d(values, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)


def ternary(inside: Map, near_radius: int) -> Map:
    """A ternary mask from a binary one: 2 inside, 1 within ``near_radius`` pixels of it, 0 elsewhere."""
    inside = (inside > 0).to(inside.dtype)
    return inside + dilate(inside, near_radius)


def warp_mask(mask: Float[Tensor, "b c hs ws"], field: Float[Tensor, "b 2 h w"]) -> Map:
    """A ternary mask moved by a field, which may be of another size. Each pixel takes the highest value that it touches, so no crack is too thin to stay."""
    touched = [
        (warp((mask >= value).to(mask.dtype), field, padding="border") > 1e-4).to(mask.dtype) for value in (1, 2)
    ]
    return touched[0] + touched[1]


def present(image: Map, hole_radius: int = 0) -> Map:
    """1 where there is data (intensity above 0), after closing isolated dark pixels within ``hole_radius``."""
    return close((image > 0).to(image.dtype), hole_radius)


def similarity_weights(
    target_mask: Map | None, warped_source_mask: Map | None, valid: Map, *, near: float, inside: float
) -> Map:
    """Weights of the similarity penalty on the target grid.

    1 on normal pixels; ``near`` (λ4) where the warped source mask is 1; ``inside`` (λ5) where either mask is 2 (the defect
    grown by 2 pixels, against the blur of warping); all times ``valid``. As in the seed, the neighbourhood of a *target*
    defect is not raised.
    """
    weights = torch.ones_like(valid)
    if warped_source_mask is not None:
        weights = torch.where(warped_source_mask >= 1, near, weights)
        weights = torch.where(dilate(warped_source_mask, 2) > 1, inside, weights)
    if target_mask is not None:
        weights = torch.where(dilate(target_mask, 2) > 1, inside, weights)
    return weights * valid


def smoothness_weights(source_mask: Map | None, valid: Map, *, near: float, inside: float, radius: int) -> Map:
    """Weights of the smoothness penalty on the **source** grid (warp them by the field to use them).

    1 on normal pixels, ``near`` (λ2) where the mask is at least 1, ``inside`` (λ3) where it is 2. Transitions are graded over
    ``radius`` pixels: the low weights are spread by a minimum filter and averaged, except that the defect itself keeps
    ``inside``.
    """
    if source_mask is None:
        return valid
    weights = torch.ones_like(valid)
    weights = torch.where(source_mask >= 1, near, weights)
    weights = torch.where(source_mask >= 2, inside, weights)
    weights = box_mean(erode(weights, radius), radius)
    return torch.where(source_mask >= 2, inside, weights) * valid
