"""What one training step shows the detector: sections with damage that it is told of.

```
section ── specimen, middle kept ──  damage, one after the other  ──  imaging  ──  image
                                            └── which kind lies where  ──────────  targets
```

Damage moves what was done before it, so the map of kinds travels with the section as labels do, and each new damage is written
over it. Where a data set has masks of its own, something real may be wrong with the tissue: that counts neither way.
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
from lamella.data.augment.damage import MASKS
from lamella.data.augment.trim import kept_size
from lamella.data.sample import SECTIONS, Layer, Sample
from lamella.tasks.defects.config import DAMAGE
from lamella.tasks.defects.net import DEFECTS, Defect

_KINDS = "kinds"  # 0 whole tissue, k + 1 a defect of kind DEFECTS[k]
_DOUBTFUL = "doubtful"  # 1 where the data set's own masks are not 0


@dataclass(frozen=True)
class DefectsSample:
    """A batch for one step: what the net is shown, what each of its outputs should be, and where that counts (0 or 1)."""

    image: Float[Tensor, "b 1 h w"]
    targets: Float[Tensor, "b k h w"]
    valid: Float[Tensor, "b 1 h w"]


def check_batch(batch: Sample, trim: float, stride: Sequence[int]) -> None:
    """Refuse samples that a detector cannot learn from."""
    if batch[SECTIONS].tensor.shape[1] != 1:
        raise UserError(
            f"a detector of defects learns from single sections, and windows hold {batch[SECTIONS].tensor.shape[1]}; set "
            "data.sections=1"
        )
    kept_size(batch.space, trim, stride)


def prepare(
    batch: Sample,
    size: tuple[int, ...],
    augments: tuple[Sequence[Augment], Sequence[Augment], Sequence[Augment]],
    kinds: Sequence[Defect],
    rng: np.random.Generator,
) -> DefectsSample:
    """The middle of the batch, damaged and shown; ``augments`` are the lists specimen, damage and imaging."""
    specimen, damage, imaging = augments
    moved = augment(batch, [*specimen, Crop(size=size, centre=True)], rng)
    damaged = damage_of(moved, damage, rng)
    sections = damaged[SECTIONS]
    image = show(Sample({SECTIONS: sections}), imaging, rng)[SHOWN].tensor if imaging else sections.tensor
    lies = damaged[_KINDS].tensor
    targets = torch.cat([lies == DEFECTS.index(kind) + 1 for kind in kinds], 1).to(image.dtype)
    valid = (sections.tensor > 0) & ((damaged[_DOUBTFUL].tensor == 0) | (lies > 0))
    return DefectsSample(image, targets, valid.to(image.dtype))


def damage_of(sample: Sample, damage: Sequence[Augment], rng: np.random.Generator) -> Sample:
    """The sample with all damage, and the layers ``kinds`` and ``doubtful``."""
    nothing = torch.zeros_like(sample[SECTIONS].tensor)
    own = (sample[MASKS].tensor > 0).to(torch.int64) if MASKS in sample else nothing.to(torch.int64)
    layers = {_KINDS: Layer(nothing.to(torch.int64), "label", on=(0,)), _DOUBTFUL: Layer(own, "label", on=(0,))}
    sample = sample.with_layers(**layers)
    for each in damage:
        sample = each(sample.with_layers(**{MASKS: Layer(nothing, "mask", on=(0,))}), rng)
        new = sample[MASKS].tensor >= 2
        lies = torch.where(new, DEFECTS.index(DAMAGE[each.kind]) + 1, sample[_KINDS].tensor)
        sample = sample.with_tensors(**{_KINDS: lies})
    return sample
