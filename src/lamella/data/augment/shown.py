"""The imaging slot: what the net is shown, beside the clean image that the loss sees.

Imaging augmentations act on the layer ``shown``, a copy of the clean layer (``sections`` or ``image``), whose channels are drawn
one by one; in 3D a drawn pattern goes through all z of its channel. Intensities are fractions of the range. In ``sections``, 0 is
missing data and stays 0, and tissue is above 0 and never becomes 0; in an ``image``, as in light microscopy, 0 is an intensity
like any other and noise may go below it. The weight layer ``cutouts`` is 1 where the image was replaced by something that says
nothing about the tissue; a loss leaves those places out.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment.base import Augment
from lamella.data.sample import SECTIONS, Layer, Sample

SHOWN = "shown"
CUTOUTS = "cutouts"
DARKEST = 1 / 255  # the least that tissue becomes: one step of eight bits above missing data


class ImagingAugment(Augment):
    """Base of those that change only what the net is shown."""

    def apply(self, sample: Sample, params: Any) -> Sample:
        sample = with_shown(sample)
        shown = sample[SHOWN].tensor
        sections = clean_name(sample) == SECTIONS
        changed = self.change_known(shown, params, shown != 0) if sections else self.change(shown, params)
        if sections and changed is not shown:
            changed = as_tissue(changed, shown)
        return sample.with_tensors(**{SHOWN: changed})

    @abstractmethod
    def change(self, shown: Float[Tensor, "b c *space"], params: Any) -> Float[Tensor, "b c *space"]:
        """The images with the params' changes; the input stays as it was. What is missing in sections is put back by ``apply``."""

    def change_known(
        self, shown: Float[Tensor, "b c *space"], params: Any, known: Bool[Tensor, "b c *space"]
    ) -> Float[Tensor, "b c *space"]:
        """The same where only what is ``known`` says something, for those that mix a voxel with its neighbours."""
        return self.change(shown, params)


def with_shown(sample: Sample) -> Sample:
    """``sample`` with the layers ``shown`` (so far the clean image) and ``cutouts`` (so far zero), if it lacks them."""
    if SHOWN in sample:
        return sample
    clean = sample[clean_name(sample)]
    if not clean.tensor.is_floating_point():
        raise UserError(
            f"the images are {clean.tensor.dtype}; imaging needs floats from 0 (missing) to 1, so scale them first"
        )
    nothing = Layer(torch.zeros_like(clean.tensor), "weight", on=clean.on)
    return sample.with_layers(**{SHOWN: clean, CUTOUTS: nothing})


def clean_name(sample: Sample) -> str:
    """The layer that imaging copies: ``sections``, or the only image there is."""
    images = [name for name in sample.of_kind("image") if name != SHOWN]
    if SECTIONS in images:
        return SECTIONS
    if len(images) != 1:
        raise UserError(
            f"imaging copies {SECTIONS!r} or the only image layer; this sample has the images {images}; name one {SECTIONS!r}"
        )
    return images[0]


def image_shape(sample: Sample) -> tuple[int, int]:
    """``(b, c)`` of the images, for drawing."""
    batch, channels = sample[clean_name(sample)].tensor.shape[:2]
    return batch, channels


def as_tissue(changed: Float[Tensor, "*n"], before: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """``changed`` where there was tissue and it did change, kept above zero; 0 where data were missing."""
    return torch.where((before == 0) | (changed == before), before, changed.clamp_min(DARKEST))


def spread(values: NDArray[Any], like: Tensor) -> Tensor:
    """Numbers ``(b, c)`` as a tensor ``(b, c, 1, ...)`` that broadcasts against the images ``like``."""
    tensor = torch.as_tensor(values, dtype=like.dtype).to(like.device)
    return tensor.reshape(*values.shape, *[1] * (like.ndim - 2))
