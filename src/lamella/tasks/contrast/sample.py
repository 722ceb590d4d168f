"""What one training step shows the net: two views of each place, and points that are in both.

```
                         ┌ specimen ── middle kept ── imaging ──  first view,  points
crop, points anywhere ── ┤                                             same order
                         └ specimen ── middle kept ── imaging ──  second view, points
```

The chance of the two views is drawn one after the other from the same stream, so nothing of one depends on the other. Points go
through the very geometry that moves the image. Those that leave either view, or lie where the image was mirrored, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment import SHOWN, augment, show
from lamella.data.augment.arrange import Crop
from lamella.data.augment.base import Augment
from lamella.data.images import IMAGE, VALID
from lamella.data.sample import Layer, Sample
from lamella.ops.points import at_points, inside

POINTS = "points"


@dataclass(frozen=True)
class View:
    """A batch as one view shows it; ``points`` are in voxels of the image."""

    image: Float[Tensor, "b c *space"]
    points: Float[Tensor, "b n d"]


@dataclass(frozen=True)
class ContrastSample:
    """Two views of one batch; point k of both is one place, ``kept`` where it can be seen in both."""

    first: View
    second: View
    kept: Bool[Tensor, "b n"]


def check_batch(batch: Sample, in_channels: int, ndim: int) -> None:
    """Refuse samples that the net cannot learn from."""
    missing = [name for name in (IMAGE, VALID) if name not in batch]
    if missing:
        raise UserError(f"contrast needs images, and samples lack {', '.join(missing)}; use data of kind 'images'")
    channels = batch[IMAGE].tensor.shape[1]
    if batch.ndim != ndim:
        raise UserError(
            f"the data have {batch.ndim} spatial axes, the net {ndim}; set data.ndim and task.net.ndim alike"
        )
    if channels != in_channels:
        raise UserError(
            f"the images have {channels} channels (counting neighbouring slices), the net takes {in_channels}; set "
            f"task.channels={channels}, or choose channels with data.sources.0.channels"
        )


def draw_points(valid: Float[Tensor, "b 1 *space"], density: float, rng: np.random.Generator) -> Float[Tensor, "b n d"]:
    """Points anywhere in each sample, ``density`` per voxel; NaN where the sample does not count."""
    batch, space = valid.shape[0], tuple(valid.shape[2:])
    number = max(round(density * np.prod(space)), 1)
    drawn = rng.uniform(-0.5, np.array(space) - 0.5, (batch, number, len(space)))
    points = torch.as_tensor(drawn, dtype=torch.float32, device=valid.device)
    counts = at_points(valid, points, "nearest") > 0.5
    return torch.where(counts, points, torch.nan)


def two_views(
    batch: Sample,
    specimen: Sequence[Augment],
    imaging: Sequence[Augment],
    density: float,
    size: tuple[int, ...],
    margin: tuple[int, ...],
    rng: np.random.Generator,
) -> ContrastSample:
    """Views of ``size`` voxels; points count that the net, which gives ``margin`` voxels less on each side, embeds in both."""
    points = Layer(draw_points(batch[VALID].tensor, density, rng), "points")
    plain = Sample({IMAGE: batch[IMAGE], POINTS: points})
    first, second = (_view(plain, specimen, imaging, size, rng) for _ in range(2))
    given = tuple(n - 2 * m for n, m in zip(size, margin, strict=True))
    lost = torch.tensor(margin, device=batch.device)
    kept = inside(first.points - lost, given) & inside(second.points - lost, given)
    return ContrastSample(first, second, kept)


def _view(
    plain: Sample,
    specimen: Sequence[Augment],
    imaging: Sequence[Augment],
    size: tuple[int, ...],
    rng: np.random.Generator,
) -> View:
    moved = augment(plain, [*specimen, Crop(size=size, centre=True)], rng)
    image = Sample({IMAGE: moved[IMAGE]})
    return View(show(image, imaging, rng)[SHOWN].tensor, moved[POINTS].tensor)
