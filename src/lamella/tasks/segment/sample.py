"""What one training step shows the net, and what the net should make of it.

```
image, labels, valid  ── specimen augmentation, middle kept ──  imaging augmentation  ──  image
                                                            └─  targets of the labels ──  objects, boundaries, distance
```

Targets are made after the labels have moved, so that a boundary is as thick in a magnified cell as in any other. Beyond the frame
of the crop, which turning and shrinking bring into view, nothing is known: no cell ends there and nothing counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment import SHOWN, augment, show
from lamella.data.augment.arrange import Crop
from lamella.data.augment.base import Augment
from lamella.data.labelled import IMAGE, LABELS, VALID
from lamella.data.sample import Layer, Sample
from lamella.ops import targets
from lamella.tasks.segment.crowd import crowd, draw
from lamella.tasks.segment.net import Head

FRAME = "frame"  # 1 where a crop shows what its data set gave


@dataclass(frozen=True)
class SegmentSample:
    """A batch for one step: what the net is shown, what it should give for each head, and where that counts (0 to 1)."""

    image: Float[Tensor, "b c *space"]
    labels: Int[Tensor, "b 1 *space"]
    valid: Float[Tensor, "b 1 *space"]
    targets: Mapping[Head, Float[Tensor, "b 1 *space"]]
    emphasis: Float[Tensor, "b 1 *space"]
    """What each voxel counts where it is valid, so that small cells are not outweighed; ones unless asked for."""


@dataclass(frozen=True)
class Truth:
    """How targets are made of labels; see ``lamella.ops.targets``."""

    heads: tuple[Head, ...]
    thickness: int
    touching_only: bool
    voxel_size: tuple[float, ...] | None
    small_weight: float = 0.0

    def emphasis(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """What each voxel of a batch ``(b, *space)`` counts; a cell of the batch's median size counts 1."""
        sizes = np.concatenate([np.unique(one[one > 0], return_counts=True)[1] for one in labels])
        if not self.small_weight or not sizes.size:
            return np.ones(labels.shape, np.float32)
        return np.stack([targets.emphasis(one, self.small_weight, float(np.median(sizes))) for one in labels])

    def __call__(self, labels: NDArray[np.int64], known: NDArray[np.bool_]) -> dict[Head, NDArray[np.float32]]:
        """The targets of one image's labels ``(*space)``, float32."""
        made: dict[Head, NDArray[np.float32]] = {}
        for head in self.heads:
            if head == "objects":
                made[head] = targets.objects(labels).astype(np.float32)
            elif head == "boundaries":
                found = targets.boundaries(labels, self.thickness, self.touching_only, self.voxel_size, known)
                made[head] = found.astype(np.float32)
            else:
                made[head] = targets.distance(labels, self.voxel_size, known)
        return made


def check_batch(batch: Sample, in_channels: int, ndim: int) -> None:
    """Refuse samples that the net cannot take."""
    missing = [name for name in (IMAGE, LABELS, VALID) if name not in batch]
    if missing:
        raise UserError(
            f"segment needs images with labels, and samples lack {', '.join(missing)}; use data of kind 'labelled'"
        )
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


def arranged(
    batch: Sample, specimen: Sequence[Augment], size: tuple[int, ...], rng: np.random.Generator, crowded: float = 0.0
) -> Sample:
    """The middle of a moved batch, with the layer ``frame``. Movements and the cut are resampled as one.

    crowded: share of the crops that have their own mirrored cells laid over them.
    """
    frame = torch.ones_like(batch[VALID].tensor)
    batch = batch.with_layers(**{FRAME: Layer(frame, "weight")})
    cut = augment(batch, [*specimen, Crop(size=size, centre=True)], rng)
    return crowd(cut, draw(rng, cut, crowded)) if crowded else cut


def prepare(batch: Sample, imaging: Sequence[Augment], truth: Truth, rng: np.random.Generator) -> SegmentSample:
    """Targets of a batch that ``arranged`` gave, and its images as the net is shown them."""
    labels = batch[LABELS].tensor
    known = (batch[FRAME].tensor > 0.5).cpu().numpy()[:, 0]
    made = [truth(one, seen) for one, seen in zip(labels.cpu().numpy()[:, 0], known, strict=True)]
    stacked = {head: _stack([m[head] for m in made], batch.device) for head in truth.heads}
    shown = show(Sample({IMAGE: batch[IMAGE]}), imaging, rng)[SHOWN].tensor if imaging else batch[IMAGE].tensor
    valid = batch[VALID].tensor * (batch[FRAME].tensor > 0.5)
    emphasis = torch.from_numpy(truth.emphasis(labels.cpu().numpy()[:, 0])[:, None]).to(batch.device)
    return SegmentSample(shown, labels, valid, stacked, emphasis)


def _stack(arrays: list[NDArray[np.float32]], device: torch.device) -> Float[Tensor, "b 1 *space"]:
    return torch.from_numpy(np.stack(arrays)[:, None]).to(device)
