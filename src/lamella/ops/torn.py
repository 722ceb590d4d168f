"""Fields of sections that are torn: smooth on either side of a crack or fold, with a jump between.

A field that is averaged across a tear, or interpolated across it, is wrong for as far as the average reaches. ``torn`` maps are
1 on pixels that lie in damage so narrow that the tissue beside it was moved apart or together; there a field may jump:

```
truth      -6 -6 -6 -6 | 6  6  6  6        | the tear
averaged   -6 -5 -3 -1   1  3  5  6
here       -6 -6 -6 -6 | 6  6  6  6        kept apart, and carried in from either side
```
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor

from lamella.ops.field import refined, rescale

Field = Float[Tensor, "b 2 h w"]
Torn = Float[Tensor, "b 1 h w"]

_STEP = 0.2  # of explicit diffusion; stable below a quarter
_JUMP = 1.0  # change from pixel to pixel by which tissue has torn: a field that squeezes this much would fold


def narrow(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The parts of damage (y, x) that are at most ``width`` pixels across: what tears tissue, not what lies on it.

    What a square of ``width + 1`` pixels fits into is left out, and its rim with it. Beyond the edges damage goes on.

    >>> narrow(np.pad(np.ones((2, 9), bool), ((3, 4), (0, 0))), 2).sum()
    18
    """
    if not inside.any():
        return inside
    side = width + 1
    padded = np.pad(inside, side, mode="edge")
    wide = ndi.minimum_filter(padded, side, mode="nearest")
    wide = ndi.maximum_filter(wide, side, mode="nearest", origin=-1 if side % 2 == 0 else 0)
    rim = ndi.maximum_filter(wide, 2 * (width // 4) + 1, mode="nearest")
    result: NDArray[np.bool_] = (padded & ~rim)[side:-side, side:-side]
    return result


def smooth_apart(field: Field, torn: Torn, variance: float) -> Field:
    """The field averaged over its surroundings on each pixel's side of what is torn, and carried into that from the nearest side.

    Diffusion for as long as gives a Gaussian of this ``variance`` in pixels², without flow through torn pixels.
    """
    field = carried_in(field, torn)
    open_ = 1 - torn
    down, right = open_[..., 1:, :] * open_[..., :-1, :] * _STEP, open_[..., 1:] * open_[..., :-1] * _STEP
    for _ in range(round(variance / (2 * _STEP))):
        change = torch.zeros_like(field)
        flow = (field[..., 1:, :] - field[..., :-1, :]) * down
        change[..., :-1, :] += flow
        change[..., 1:, :] -= flow
        flow = (field[..., 1:] - field[..., :-1]) * right
        change[..., :-1] += flow
        change[..., 1:] -= flow
        field = field + change
    return carried_in(field, torn)


def carried_in(field: Field, torn: Torn) -> Field:
    """The field with the vectors of torn pixels replaced by those of the nearest pixel that is not."""
    found = []
    for vectors, mask in zip(field, torn[:, 0] > 0, strict=True):
        if mask.any() and not mask.all():
            y, x = ndi.distance_transform_edt(mask.cpu().numpy(), return_distances=False, return_indices=True)
            vectors = vectors[:, torch.from_numpy(y).to(field.device), torch.from_numpy(x).to(field.device)]
        found.append(vectors)
    return torch.stack(found)


def jumps(field: Field) -> Bool[Tensor, "b 1 h w"]:
    """Pixels beside which the field changes by more than a pixel, from one pixel to the next."""
    found = torch.zeros_like(field[:, :1], dtype=torch.bool)
    down = (field[..., 1:, :] - field[..., :-1, :]).square().sum(1, keepdim=True) > _JUMP**2
    found[..., 1:, :] |= down
    found[..., :-1, :] |= down
    right = (field[..., 1:] - field[..., :-1]).square().sum(1, keepdim=True) > _JUMP**2
    found[..., 1:] |= right
    found[..., :-1] |= right
    return found


def rescale_torn(field: Field, levels: int, size: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """As ``ops.field.rescale`` to ``levels`` mips finer, but not interpolated across jumps: there each pixel has its coarse pixel's
    own vector."""
    smooth = rescale(field, levels, size)
    return smooth if levels <= 0 else _apart(field, smooth, (2**levels, 2**levels))


def refined_torn(field: Field, factors: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """As ``ops.field.refined``, but not interpolated across jumps either."""
    return _apart(field, refined(field, factors), factors)


def _apart(field: Field, smooth: Float[Tensor, "b 2 h2 w2"], factors: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """The ``smooth`` field, ``factors`` times finer and perhaps cut at the end, with each coarse pixel's own vector beside jumps."""
    h, w = smooth.shape[-2:]
    own = _repeated(field, factors)[..., :h, :w] * torch.tensor(factors).to(field).view(1, 2, 1, 1)
    return torch.where(_repeated(jumps(field), factors)[..., :h, :w], own, smooth)


def _repeated(values: Float[Tensor, "b c h w"] | Bool[Tensor, "b c h w"], factors: tuple[int, int]) -> Tensor:
    return values.repeat_interleave(factors[0], -2).repeat_interleave(factors[1], -1)
