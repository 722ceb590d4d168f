"""What damaging augmentations share: changing layers section by section, and marking the damage in the masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment.base import num_sections
from lamella.data.sample import SECTIONS, Kind, Layer, Sample, sections_of

MASKS = "masks"


def with_masks(sample: Sample) -> Sample:
    """``sample`` with a layer ``masks``, zero so far, if it lacks one: damage that no mask tells of would mislead a loss."""
    if MASKS in sample:
        return sample
    sections = sample[SECTIONS]
    return sample.with_layers(**{MASKS: Layer(torch.zeros_like(sections.tensor), "mask", on=sections.on)})


def edit(sample: Sample, kind: Kind, change: Callable[[Tensor, list[int]], Tensor]) -> Sample:
    """Change all layers of ``kind``; ``change`` is given each tensor and the section of each of its channels."""
    total = num_sections(sample)
    layers = sample.of_kind(kind)
    return sample.with_tensors(
        **{name: change(layer.tensor, sections_of(name, layer, total)) for name, layer in layers.items()}
    )


def mark(sample: Sample, inside: Bool[Tensor, "b s h w"], near: Bool[Tensor, "b s h w"]) -> Sample:
    """Raise masks to 2 where ``inside`` and to 1 where ``near``."""
    value = torch.where(inside, 2, near.to(torch.uint8))
    return edit(sample, "mask", lambda mask, s: torch.maximum(mask, value[:, s].to(mask.dtype)))


def need_floats(sample: Sample) -> None:
    """Damage is drawn in fractions of the range of intensities."""
    for name, layer in sample.of_kind("image").items():
        if not layer.tensor.is_floating_point():
            raise UserError(
                f"layer {name!r} is {layer.tensor.dtype}; this needs floats from 0 (missing) to 1, so scale it first"
            )
