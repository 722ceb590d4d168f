"""What defines a segmentation net, except data and training length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from lamella.core.config import Config
from lamella.data.augment import Imaging, Specimen
from lamella.data.augment.affine import Rotate, Scale
from lamella.data.augment.arrange import Mirror, Transpose
from lamella.data.augment.base import Uniform
from lamella.data.augment.grain import Blur, Noise
from lamella.data.augment.lighting import Brightness, Gamma
from lamella.data.augment.trim import Trim
from lamella.nets.dcan import DcanConfig
from lamella.nets.unet import UNetConfig
from lamella.ops.instances import Basins, InstancesConfig
from lamella.tasks.segment.net import HEADS, Head

if TYPE_CHECKING:
    from lamella.tasks.segment.task import SegmentTask


def default_net() -> UNetConfig:
    """A U-Net of a million parameters that works on a grid of every second pixel."""
    return UNetConfig(features=(32, 64, 128, 128), fold=2, residual=True, skip="add")


def default_specimen() -> tuple[Specimen, ...]:
    """Cells turned, mirrored, and magnified or shrunk; cells have no upper side, and come in all sizes."""
    return (
        Rotate(p=1.0),
        Scale(p=1.0, factor=Uniform(low=0.7, high=1.5), axes=("y", "x")),
        Scale(p=0.5, factor=Uniform(low=0.87, high=1.15), axes=("x",)),
        Mirror(),
        Transpose(),
    )


def default_imaging() -> tuple[Imaging, ...]:
    """Images brighter and dimmer, developed otherwise, out of focus and noisy."""
    return (
        Brightness(p=0.5, factor=(1.0, 1.4), offset=(0.0, 0.1)),
        Gamma(p=0.3),
        Blur(p=0.2, sigma=(0.4, 1.2)),
        Noise(p=0.3, std=(0.0, 0.06)),
    )


class SegmentConfig(Config):
    """Everything that defines a segmentation, except data and training length."""

    kind: Literal["segment"] = "segment"
    channels: int = Setting(1, ge=1, description="channels of the images, times data.slices")
    net: Annotated[UNetConfig | DcanConfig, Setting(discriminator="kind")] = default_net()
    heads: tuple[Head, ...] = Setting(HEADS, description="what the net predicts: objects, boundaries, distance")
    obj_weight: float = Setting(1.0, ge=0, description="weight of the loss of objects")
    bnd_weight: float = Setting(1.0, ge=0, description="weight of the loss of boundaries")
    dist_weight: float = Setting(1.0, ge=0, description="weight of the loss of distances")
    dice_weight: float = Setting(
        0.5, ge=0, description="weight of the Dice overlap against the cross entropy, for objects"
    )
    auxiliary_weight: float = Setting(
        1.0, ge=0, description="weight of each level's own loss in nets with deep supervision; falls to 0 by the end"
    )
    boundary_thickness: int = Setting(2, ge=2, multiple_of=2, description="voxels across a boundary, half on each side")
    touching_boundaries: bool = Setting(False, description="learn boundaries only where two objects touch")
    small_weight: float = Setting(
        0.0, ge=0, le=1, description="voxels of a cell count (median size / its size) to this power; 0: all alike"
    )
    crowded: float = Setting(
        0.0, ge=0, le=1, description="share of the crops over which their own cells are laid once more, mirrored"
    )
    voxel_size: tuple[float, ...] | None = Setting(
        None, description="voxel size in axes order, in any unit, for targets in flat voxels; none: cubes"
    )
    specimen: tuple[Specimen, ...] = default_specimen()
    imaging: tuple[Imaging, ...] = default_imaging()
    trim: Trim = 1.0
    instances: InstancesConfig = Setting(Basins(), description="how instances are made of the maps")

    @model_validator(mode="after")
    def _check(self) -> SegmentConfig:
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads {list(self.heads)} must name each head once; choose from {', '.join(HEADS)}")
        if "objects" not in self.heads:
            raise ValueError(f"heads {list(self.heads)} lack 'objects', of which all instances are made; add it")
        if not sum(self.weight(head) for head in self.heads):
            raise ValueError("every head has weight 0, so there is nothing to learn; raise obj_weight")
        missing = [name for name in self.instances.build().needs if name not in (*self.heads, "image")]
        if missing:
            raise ValueError(
                f"instances of kind {self.instances.kind!r} need {', '.join(missing)}, which is none of the heads "
                f"{', '.join(self.heads)}; add the head, or choose instances of kind 'components' or 'watershed'"
            )
        if self.voxel_size is not None and (len(self.voxel_size) != self.net.ndim or min(self.voxel_size) <= 0):
            raise ValueError(f"voxel_size {self.voxel_size} must be {self.net.ndim} lengths above 0, one per axis")
        return self

    def weight(self, head: Head) -> float:
        """Of the loss of ``head``."""
        return {"objects": self.obj_weight, "boundaries": self.bnd_weight, "distance": self.dist_weight}[head]

    def build(self) -> SegmentTask:
        from lamella.tasks.segment.task import SegmentTask

        return SegmentTask(self)
