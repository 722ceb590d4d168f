"""Augmentation in two slots.

*Specimen* augmentations move or damage the tissue: inputs and truth change together, and the loss sees the result. *Imaging*
augmentations change only what the net is shown; the loss sees the clean image.

    sample = augment(sample, specimen, rng)     # sections, masks, truth ... moved together
    sample = show(sample, imaging, rng)         # adds the layers "shown" and "cutouts"; "sections" stays clean

A new augmentation is a class in its file and a member of one of the unions below; the conformance tests find it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Discriminator

from lamella.data.augment.affine import Rotate, Scale, Shear, Translate
from lamella.data.augment.arrange import Crop, Mirror, Pad, Reverse, Transpose
from lamella.data.augment.base import Augment, GeometricAugment
from lamella.data.augment.covers import Blackout, Cut
from lamella.data.augment.cutouts import ContrastCutouts, MissingCutouts, NoiseCutouts
from lamella.data.augment.elastic import Elastic
from lamella.data.augment.grain import Blur, Noise
from lamella.data.augment.jitter import Jitter, jitter_reach
from lamella.data.augment.lighting import Brightness, Compress, Gamma, Limit
from lamella.data.augment.painted import Debris, Rift, Wrinkle
from lamella.data.augment.patterns import Gradients, Tilings
from lamella.data.augment.seams import Crack, Fold
from lamella.data.augment.shown import CUTOUTS, SHOWN, with_shown
from lamella.data.geometry import Geometry
from lamella.data.resample import move
from lamella.data.sample import Sample

Specimen = Annotated[
    Rotate
    | Scale
    | Shear
    | Translate
    | Elastic
    | Mirror
    | Transpose
    | Reverse
    | Crop
    | Pad
    | Jitter
    | Cut
    | Crack
    | Fold
    | Blackout
    | Rift
    | Wrinkle
    | Debris,
    Discriminator("kind"),
]
Imaging = Annotated[
    NoiseCutouts
    | ContrastCutouts
    | MissingCutouts
    | Gradients
    | Tilings
    | Brightness
    | Compress
    | Gamma
    | Noise
    | Blur
    | Limit,
    Discriminator("kind"),
]


def default_specimen(max_shift: int = 5) -> tuple[Specimen, ...]:
    """What aligners are trained with: the stack turned and scaled, its sections jittered by up to ``max_shift``, turned again."""
    turn = (Rotate(), Scale())
    return (*turn, Jitter(max_shift=max_shift), *turn, Mirror(), Transpose(), Cut(), Reverse())


def default_imaging() -> tuple[Imaging, ...]:
    """What aligners are trained with: cutouts, shading and brightness, brought back to the range 0 to 1."""
    cutouts = (NoiseCutouts(), ContrastCutouts(), MissingCutouts())
    return (*cutouts, Gradients(), Tilings(), Brightness(), Limit())


def augment(sample: Sample, augments: Sequence[Augment], rng: np.random.Generator, *, cubic: bool = False) -> Sample:
    """Apply ``augments`` in order; those in a row that only move voxels are resampled once, as one movement.

    cubic: interpolate images by cubes where they move (2D).
    """
    pending: Geometry | None = None
    for each in augments:
        if pending is not None and (pending.source != pending.target or not isinstance(each, GeometricAugment)):
            sample, pending = move(sample, pending, cubic=cubic), None
        params = each.draw(rng, sample)
        if isinstance(each, GeometricAugment):
            pending = params if pending is None else pending.then(params)
        else:
            sample = each.apply(sample, params)
    return sample if pending is None else move(sample, pending, cubic=cubic)


def show(sample: Sample, augments: Sequence[Augment], rng: np.random.Generator) -> Sample:
    """``sample`` with the layers ``shown``, what the net is to see, and ``cutouts``, 1 where that says nothing of the tissue."""
    return augment(with_shown(sample), augments, rng)


__all__ = [
    "CUTOUTS",
    "SHOWN",
    "Augment",
    "Geometry",
    "Imaging",
    "Specimen",
    "augment",
    "default_imaging",
    "default_specimen",
    "jitter_reach",
    "show",
]
