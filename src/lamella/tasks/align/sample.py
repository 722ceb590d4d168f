"""What one training step shows the aligner: three images of each place, and what is known of them.

```
source   ──── section z (clean for the loss, with imaging changes for the net)
target   ──── its neighbour z ± 1, or one up to ``apart`` sections away; for a share of the batch the source itself, where the field
              is known to be zero
deformed ──── the source moved by a known smooth field
```

The field from the deformed image to the target is then known exactly where target and source are one section, and known
relative to the field from the source everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.data.augment import CUTOUTS, SHOWN, show
from lamella.data.augment.base import Augment
from lamella.data.sample import SECTIONS, Layer, Sample
from lamella.ops.field import invert, smooth_field, warp
from lamella.ops.masks import present
from lamella.tasks.align.objective import Pair, looks_inside

MASKS = "masks"
SOURCE, TARGET, DEFORMED = 0, 1, 2  # channels of what the net is shown


class KnownFields(Config):
    """Smooth fields that are drawn, applied and asked back."""

    share: float = Setting(0.5, ge=0, le=1, description="share of the batch whose target is the source section itself")
    amplitude: tuple[float, float] = Setting(
        (1.0, 28.0), description="largest component in pixels, drawn log-uniformly"
    )
    spacing: tuple[float, float] = Setting((48.0, 320.0), description="distance of control points, pixels, log-uniform")
    shift: float = Setting(8.0, ge=0, description="largest shift along an axis added to the field, pixels")

    @model_validator(mode="after")
    def _check(self) -> KnownFields:
        for name in ("amplitude", "spacing"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {[low, high]} must be two positive numbers, the smaller first")
        return self

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Float[Tensor, "1 2 h w"]:
        """One field; its amplitude is held below a fifth of its spacing, where it does not fold."""
        spacing = float(np.exp(rng.uniform(*np.log(self.spacing))))
        amplitude = min(float(np.exp(rng.uniform(*np.log(self.amplitude)))), 0.2 * spacing)
        shift = torch.tensor(rng.uniform(-self.shift, self.shift, (1, 2, 1, 1)), dtype=torch.float32)
        return smooth_field(rng, size, amplitude, spacing) + shift


@dataclass(frozen=True)
class AlignSample:
    """A batch for one step; ``known`` leads from the source's grid to the deformed image: warp(deformed, known) = source."""

    pair: Pair
    shown: Float[Tensor, "b s h w"]
    known: Float[Tensor, "b 2 h w"]
    known_valid: Float[Tensor, "b 1 h w"]
    num_identical: int


def trimmed(sample: Sample, share: float) -> Sample:
    """The middle of a sample, ``share`` of each side."""
    height, width = (max(1, round(share * n)) for n in sample.space)
    y, x = (sample.space[0] - height) // 2, (sample.space[1] - width) // 2
    middle = {name: layer.tensor[..., y : y + height, x : x + width] for name, layer in sample.items()}
    return sample.with_tensors(**middle)


def neighbours(sample: Sample, rng: np.random.Generator, num_identical: int, apart: int = 1) -> Sample:
    """Of each sample's window keep one pair in random order; the first ``num_identical`` get the source twice.

    The sections of a pair are adjacent, or 1 to ``apart`` sections away from each other, each distance as often as any other.
    """
    sections = sample[SECTIONS].tensor
    batch, depth = sections.shape[:2]
    if depth <= apart:
        raise UserError(f"training windows hold {depth} section(s); set data.sections to {apart + 1} or more")
    gap = rng.integers(1, apart + 1, batch) if apart > 1 else np.ones(batch, np.int64)
    first = rng.integers(0, depth - gap)
    swap = rng.integers(0, 2, batch)
    source, target = first + swap * gap, first + (1 - swap) * gap
    target = np.where(np.arange(batch) < num_identical, source, target)
    pick = torch.as_tensor(np.stack([source, target], 1), device=sections.device)
    layers = {}
    for name in (SECTIONS, MASKS):
        if name in sample:
            index = pick[:, :, None, None].expand(-1, -1, *sections.shape[2:])
            layers[name] = Layer(sample[name].tensor.gather(1, index), sample[name].kind)
    return Sample(layers)


def prepare(
    sample: Sample, imaging: tuple[Augment, ...], known: KnownFields, rng: np.random.Generator, num_identical: int
) -> AlignSample:
    """Deform the source of a pair by a known field, then change what is shown of all three images, each by itself."""
    clean = sample[SECTIONS].tensor
    size = (clean.shape[-2], clean.shape[-1])
    field = torch.cat([known.draw(rng, size) for _ in range(clean.shape[0])]).to(clean)
    undo = invert(field, 20)
    deformed = warp(clean[:, SOURCE, None], undo)
    images = Sample({SECTIONS: Layer(torch.cat([clean, deformed], 1), "image")})
    images = show(images, imaging, rng)
    valid = present(clean.flatten(0, 1)[:, None], 1).view_as(clean) * (1 - images[CUTOUTS].tensor[:, :2]).clamp(0, 1)
    masks = sample[MASKS].tensor.to(clean) if MASKS in sample else None
    pair = Pair(
        clean[:, SOURCE, None],
        clean[:, TARGET, None],
        valid[:, SOURCE, None],
        valid[:, TARGET, None],
        None if masks is None else masks[:, SOURCE, None],
        None if masks is None else masks[:, TARGET, None],
    )
    known_valid = looks_inside(field) * present(clean[:, SOURCE, None], 1)
    return AlignSample(pair, images[SHOWN].tensor, field, known_valid, num_identical)
