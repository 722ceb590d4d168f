"""What is left of a crop once it has been turned: its middle, of a size that the net takes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated

from pydantic import Field

from lamella.core.errors import UserError

Trim = Annotated[
    float,
    Field(gt=0, le=1, description="share of a crop's side that is kept once it has been turned, against empty corners"),
]


def kept_size(
    space: Sequence[int],
    share: float | Sequence[float],
    stride: Sequence[int],
    margin: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """The largest size within ``share`` (of all axes, or each) of ``space`` that a net of this stride and margin takes.

    Raises UserError if that is nothing.

    >>> kept_size((100, 130), 0.7, (8, 8))
    (64, 88)
    """
    shares = (share,) * len(space) if isinstance(share, int | float) else share
    size = tuple(int(round(p * n) // s * s) for n, s, p in zip(space, stride, shares, strict=True))
    least = tuple(2 * m + s for m, s in zip(margin or [0] * len(space), stride, strict=True))
    if any(n < need for n, need in zip(size, least, strict=True)):
        crop = tuple(ceil(need / p) for need, p in zip(least, shares, strict=True))
        raise UserError(
            f"a crop of {tuple(space)} leaves {size} for a net that needs at least {least}, in multiples of {tuple(stride)}; "
            f"set data.crop to {crop} or more, or raise task.trim"
        )
    return size
