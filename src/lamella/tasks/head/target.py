"""What a head learns, and what its raw outputs become.

Affinities (Turaga et al. 2010) are probabilities, one map for each offset, of a sigmoid; classes are probabilities that add up to 1
at each voxel, of a softmax.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor

from lamella.core.config import Config
from lamella.ops.affinities import nearest
from lamella.ops.classes import ClassesConfig, Foreground

Maps = Float[Tensor, "b _ ..."]


class Affinities(Config):
    """Whether two voxels, an offset apart, are of one object."""

    kind: Literal["affinities"] = "affinities"
    offsets: tuple[tuple[int, ...], ...] | None = Setting(
        None, description="steps in voxels, an entry per axis, z first; none: to the voxel before along each axis"
    )
    loss: Literal["mse", "bce"] = Setting("mse", description="mean squared error, or cross entropy")

    def steps(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """The offsets for images of ``ndim`` axes."""
        return nearest(ndim) if self.offsets is None else self.offsets

    def names(self, ndim: int) -> tuple[str, ...]:
        """What each output is."""
        return tuple(",".join(str(n) for n in step) for step in self.steps(ndim))

    def finish(self, raw: Maps) -> Maps:
        return torch.sigmoid(raw)


class Classes(Config):
    """What a voxel is."""

    kind: Literal["classes"] = "classes"
    classes: ClassesConfig = Setting(
        Foreground(), description="which classes there are, and how they follow from labels"
    )
    balanced: bool = Setting(
        True, description="each class counts as much as another in the loss, however many of its voxels there are"
    )

    def names(self, ndim: int) -> tuple[str, ...]:
        """What each output is."""
        return self.classes.names

    def finish(self, raw: Maps) -> Maps:
        return torch.softmax(raw, 1)


TargetConfig = Annotated[Affinities | Classes, Setting(discriminator="kind")]
