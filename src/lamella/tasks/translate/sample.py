"""What one training step shows the net, and what the net should make of it.

```
image, target, weight  ── specimen augmentation, middle kept ──┬─ imaging augmentation ──  image
                                                               └─ as they are ───────────  target, weight
```

Beyond the frame of the crop, which turning and shrinking bring into view, nothing counts. The slices of a window are one volume to
imaging: what is drawn for a channel goes through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment import SHOWN, augment, show
from lamella.data.augment.arrange import Crop
from lamella.data.augment.base import Augment
from lamella.data.frames import IMAGE, TARGET, WEIGHT
from lamella.data.sample import Layer, Sample

FRAME = "frame"  # 1 where a crop shows what its data set gave


@dataclass(frozen=True)
class TranslateSample:
    """A batch for one step: what the net is shown, what it should give, and where that counts."""

    image: Float[Tensor, "b c *space"]
    target: Float[Tensor, "b t *space"]
    weight: Float[Tensor, "b t *space"]


@dataclass(frozen=True)
class Expected:
    """What a net takes and gives."""

    ndim: int
    channels: int
    outputs: int
    stride: tuple[int, ...]


def check_batch(batch: Sample, expected: Expected) -> None:
    """Refuse samples that the net cannot learn from."""
    missing = [name for name in (IMAGE, TARGET, WEIGHT) if name not in batch]
    if missing:
        raise UserError(f"translate needs frames, and samples lack {', '.join(missing)}; use data of kind 'frames'")
    if batch.ndim != expected.ndim:
        raise UserError(
            f"the data have {batch.ndim} spatial axes, the net {expected.ndim}; set data.ndim and task.net.ndim alike"
        )
    for name, need, advice in (
        (IMAGE, expected.channels, "set task.channels to the number of data.inputs and task.depth to data.depth"),
        (
            TARGET,
            expected.outputs,
            "set task.targets to the number of data.targets, and data.whole_window if task.net gives a stack",
        ),
    ):
        found = batch[name].tensor.shape[1]
        if found != need:
            raise UserError(f"{name} has {found} channels (counting slices), the net has {need}; {advice}")


def in_plane(space: Sequence[int], share: float) -> tuple[float, ...]:
    """``share`` of y and x, and all of z: slices are too few to lose any, and nothing turns them."""
    return (1.0,) * (len(space) - 2) + (share, share)


def arranged(batch: Sample, specimen: Sequence[Augment], size: tuple[int, ...], rng: np.random.Generator) -> Sample:
    """The middle of a moved batch. Movements and the cut are resampled as one."""
    frame = torch.ones_like(batch[WEIGHT].tensor[:, :1])
    batch = batch.with_layers(**{FRAME: Layer(frame, "weight")})
    return augment(batch, [*specimen, Crop(size=size, centre=True)], rng)


def prepare(batch: Sample, imaging: Sequence[Augment], depth: int, rng: np.random.Generator) -> TranslateSample:
    """A batch that ``arranged`` gave, its images as the net is shown them."""
    weight = batch[WEIGHT].tensor * (batch[FRAME].tensor > 0.5)
    shown = batch[IMAGE].tensor
    if imaging:
        deep = shown.unflatten(1, (-1, depth)) if depth > 1 else shown
        shown = show(Sample({IMAGE: Layer(deep, "image")}), imaging, rng)[SHOWN].tensor.reshape(shown.shape)
    return TranslateSample(shown, batch[TARGET].tensor.float(), weight)
