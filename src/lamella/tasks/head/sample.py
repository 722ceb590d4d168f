"""What one training step shows the net, and what the net should make of it: at every voxel, or at points.

```
image, labels, valid ── specimen augmentation, middle kept ──  imaging augmentation  ──  image
                                                           └─  targets of the labels ──  affinities or classes
image, points ───────── specimen augmentation, middle kept ──  imaging augmentation  ──  image
                                                           └─  points that are still in view, with their classes
```

Targets are made after the labels have moved. Beyond the frame of the crop, which turning and shrinking bring into view, nothing is
known and nothing counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment import SHOWN, augment, show
from lamella.data.augment.arrange import Crop
from lamella.data.augment.base import Augment
from lamella.data.labelled import IMAGE, LABELS, VALID
from lamella.data.points import classes_in
from lamella.data.sample import Layer, Sample
from lamella.ops.affinities import affinities
from lamella.ops.points import inside
from lamella.tasks.head.config import HeadConfig
from lamella.tasks.head.target import Affinities, Classes

FRAME = "frame"  # 1 where a crop shows what its data set gave


@dataclass(frozen=True)
class MapSample:
    """A batch of labelled images: ``target`` has a map for each affinity, or one of classes (-1: none); ``valid`` says where it counts."""

    image: Float[Tensor, "b c *space"]
    target: Float[Tensor, "b n *space"] | Int[Tensor, "b 1 *space"]
    valid: Float[Tensor, "b n *space"]


@dataclass(frozen=True)
class PointSample:
    """A batch of images with points in voxels, of which those count that are ``kept``."""

    image: Float[Tensor, "b c *space"]
    points: Float[Tensor, "b p d"]
    classes: Int[Tensor, " p"]
    kept: Bool[Tensor, "b p"]


HeadSample = MapSample | PointSample


def check_batch(batch: Sample, config: HeadConfig) -> None:
    """Refuse samples that the net cannot learn from."""
    by_points = bool(classes_in(batch))
    if IMAGE not in batch or not (by_points or LABELS in batch):
        raise UserError("heads learn from images with labels or with points; use data of kind 'labelled' or 'points'")
    if by_points and isinstance(config.target, Affinities):
        raise UserError(
            "affinities are of pairs of voxels and cannot be learnt from points; use data of kind 'labelled'"
        )
    channels = batch[IMAGE].tensor.shape[1]
    if batch.ndim != config.axes:
        key = "task.ndim" if config.net is None else "task.net.ndim"
        raise UserError(
            f"the data have {batch.ndim} spatial axes, the net {config.axes}; set data.ndim and {key} alike"
        )
    if channels != config.channels:
        raise UserError(
            f"the images have {channels} channels (of embeddings: h_channels), the net takes {config.channels}; set "
            f"task.channels={channels}, or choose channels with data.sources.0.channels"
        )
    if isinstance(config.target, Classes):
        _check_classes(batch, len(config.names))


def _check_classes(batch: Sample, num: int) -> None:
    found = classes_in(batch)
    if found and max(found) >= num:
        raise UserError(
            f"the points have classes up to {max(found)}, task.target.classes knows {num} of them; choose classes that were drawn"
        )


def moved(batch: Sample, specimen: Sequence[Augment], size: tuple[int, ...], rng: np.random.Generator) -> Sample:
    """The middle of a moved batch, with the layer ``frame``."""
    if size == batch.space and not specimen:
        return batch.with_layers(**{FRAME: _ones(batch)})
    return augment(batch.with_layers(**{FRAME: _ones(batch)}), [*specimen, Crop(size=size, centre=True)], rng)


def map_sample(batch: Sample, config: HeadConfig, imaging: Sequence[Augment], rng: np.random.Generator) -> MapSample:
    """Targets of a batch with labels that ``moved`` gave, and its images as the net is shown them."""
    labels = batch[LABELS].tensor.cpu().numpy()[:, 0]
    counts = batch[VALID].tensor * (batch[FRAME].tensor > 0.5)
    known, counted = (x.cpu().numpy()[:, 0] > 0.5 for x in (batch[FRAME].tensor, counts))
    made = [_truth(*each, config) for each in zip(labels, known, counted, strict=True)]
    target, valid = (torch.from_numpy(np.stack(part)).to(batch.device) for part in zip(*made, strict=True))
    return MapSample(_shown(batch, imaging, rng), target, valid * counts)


def _truth(
    labels: NDArray[np.int64], known: NDArray[np.bool_], counted: NDArray[np.bool_], config: HeadConfig
) -> tuple[NDArray[np.float32] | NDArray[np.int64], NDArray[np.float32]]:
    """Target (n, *space) of one image's labels (*space), and where it is known (n, *space)."""
    if isinstance(config.target, Affinities):
        steps = config.target.steps(config.axes)
        found, valid = affinities(labels, steps)
        both, _ = affinities(
            counted.astype(np.int64), steps
        )  # nothing is known of a pair of which one end does not count
        return found.astype(np.float32), (valid & both).astype(np.float32)
    classes = config.target.classes(labels, known)
    return classes[None], (classes[None] >= 0).astype(np.float32)


def point_sample(
    batch: Sample, config: HeadConfig, imaging: Sequence[Augment], margin: tuple[int, ...], rng: np.random.Generator
) -> PointSample:
    """The points of a batch that ``moved`` gave, in voxels of the maps, which are ``margin`` smaller on each side."""
    layers = classes_in(batch)
    points = torch.cat([batch[name].tensor for name in layers.values()], 1)
    classes = [torch.full((batch[name].tensor.shape[1],), k) for k, name in layers.items()]
    points = points - torch.tensor(margin, device=batch.device)
    space = tuple(n - 2 * m for n, m in zip(batch.space, margin, strict=True))
    return PointSample(_shown(batch, imaging, rng), points, torch.cat(classes).to(batch.device), inside(points, space))


def _shown(batch: Sample, imaging: Sequence[Augment], rng: np.random.Generator) -> Tensor:
    if not imaging:
        return batch[IMAGE].tensor
    return show(Sample({IMAGE: batch[IMAGE]}), imaging, rng)[SHOWN].tensor


def _ones(batch: Sample) -> Layer:
    image = batch[IMAGE].tensor
    return Layer(image.new_ones(len(image), 1, *image.shape[2:]), "weight")
