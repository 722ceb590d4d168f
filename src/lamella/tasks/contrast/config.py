"""What defines an embedding, except data and training length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from lamella.core.config import Config
from lamella.data.augment import Imaging, Specimen
from lamella.data.augment.affine import Rotate, Scale
from lamella.data.augment.arrange import Mirror, Transpose
from lamella.data.augment.base import Uniform
from lamella.data.augment.elastic import Elastic
from lamella.data.augment.grain import Blur, Noise
from lamella.data.augment.lighting import Brightness, Gamma
from lamella.data.augment.trim import Trim
from lamella.nets.beside import Deviation, check_deviations
from lamella.nets.unet import UNetConfig

if TYPE_CHECKING:
    from lamella.tasks.contrast.task import ContrastTask


def default_net() -> UNetConfig:
    """A U-Net of a million parameters that works on a grid of every second pixel; zeros beyond edges would tell places apart."""
    return UNetConfig(features=(32, 64, 128, 128), fold=2, residual=True, skip="add", edges="replicate")


def default_specimen() -> tuple[Specimen, ...]:
    """What a place may look like without being another: turned, bent, mirrored, a little larger or smaller."""
    return (
        Rotate(p=1.0),
        Elastic(p=1.0, std=(2.0,), spacing=(24.0,)),
        Scale(p=0.5, factor=Uniform(low=0.85, high=1.2), axes=("y", "x")),
        Mirror(),
        Transpose(),
    )


def default_imaging() -> tuple[Imaging, ...]:
    """And otherwise lit, developed, focused, and noisy."""
    return (
        Brightness(p=0.5, factor=(1.0, 1.4), offset=(0.0, 0.1)),
        Gamma(p=0.5),
        Blur(p=0.5, sigma=(0.3, 1.2)),
        Noise(p=0.5, std=(0.0, 0.06)),
    )


class ContrastConfig(Config):
    """Everything that defines an embedding, except data and training length."""

    kind: Literal["contrast"] = "contrast"
    channels: int = Setting(1, ge=1, description="channels of the images, times data.slices")
    net: UNetConfig = default_net()
    h_channels: int = Setting(16, ge=1, description="channels of the embedding that are learnt")
    beside: tuple[Deviation, ...] = Setting(
        (),
        description="intensities that follow the learnt channels, smoothed by Gaussians of these deviations in voxels, 0 as they are",
    )
    projection: tuple[int, ...] | None = Setting(
        None,
        description="widths of the layers between embedding and loss, which are left off afterwards; none: two of h_channels",
    )
    point_density: float = Setting(0.01, gt=0, le=1, description="points that are compared, per voxel of a view")
    loss: Literal["ntxent", "vicreg"] = Setting(
        "ntxent",
        description="ntxent: places are told from each other; vicreg: views of a place are alike, and channels differ",
    )
    negatives: Literal["batch", "crop"] = Setting(
        "batch",
        description="of ntxent: what a place is told from, all of the batch, or those of its own crop, so that nothing is learnt of "
        "what tells one image from another",
    )
    temperature: float = Setting(0.1, gt=0, description="of ntxent: the lower, the more the nearest others count")
    sampling: Literal["linear", "nearest"] = Setting(
        "linear", description="embedding of a point: linear between voxels, or that of the nearest voxel"
    )
    specimen: tuple[Specimen, ...] = default_specimen()
    imaging: tuple[Imaging, ...] = default_imaging()
    trim: Trim = 0.7

    @model_validator(mode="after")
    def _check(self) -> ContrastConfig:
        if self.projection is not None and min(self.projection, default=1) < 1:
            raise ValueError(f"projection {list(self.projection)} must hold widths of at least 1")
        check_deviations(self.beside, self.net.ndim)
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the layers between embedding and loss."""
        return (self.h_channels,) * 2 if self.projection is None else self.projection

    @property
    def out_channels(self) -> int:
        """Channels of the embedding, learnt or not."""
        return self.h_channels + self.channels * len(self.beside)

    def build(self) -> ContrastTask:
        from lamella.tasks.contrast.task import ContrastTask

        return ContrastTask(self)
