"""What defines a head and what it reads, except data and training length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.data.augment import Imaging, Specimen
from lamella.data.augment.trim import Trim
from lamella.nets.beside import Deviation, build_beside, check_deviations
from lamella.nets.heads import DenseHeadConfig, HeadNetConfig
from lamella.nets.unet import UNetConfig
from lamella.ops.affinities import check_offsets
from lamella.ops.points import Sampling
from lamella.tasks.head.target import Affinities, Classes, TargetConfig

if TYPE_CHECKING:
    from lamella.tasks.head.net import HeadNet
    from lamella.tasks.head.task import HeadTask


class HeadConfig(Config):
    """Everything that defines a head and what it reads, except data and training length."""

    kind: Literal["head"] = "head"
    channels: int = Setting(1, ge=1, description="channels of the images, times data.slices, or of stored embeddings")
    net: UNetConfig | None = Setting(
        None, description="the base that embeds images; none: the head reads pixels, or embeddings that were stored"
    )
    ndim: Literal[2, 3] | None = Setting(
        None, description="spatial axes, where there is no net that tells; 2 if not given"
    )
    h_channels: int = Setting(16, ge=1, description="channels of the embedding that the net gives the head")
    beside: tuple[Deviation, ...] = Setting(
        (), description="smoothed intensities that the head reads too, as of the contrast task"
    )
    freeze_base: bool = Setting(False, description="keep the net as it comes from --from, and train the head alone")
    head: HeadNetConfig = Setting(DenseHeadConfig(), description="dense: for labelled images; sparse: for points")
    target: TargetConfig = Setting(Classes(), description="affinities, or classes")
    sampling: Sampling = Setting(
        "linear", description="embedding of a point: linear between voxels, or that of the nearest voxel"
    )
    specimen: tuple[Specimen, ...] = Setting((), description="augmentations that move images and truth")
    imaging: tuple[Imaging, ...] = Setting((), description="augmentations of what the net is shown")
    trim: Trim = 1.0

    @model_validator(mode="after")
    def _check(self) -> HeadConfig:
        if self.net is not None and self.ndim not in (None, self.net.ndim):
            raise ValueError(f"ndim {self.ndim} is not that of the net, {self.net.ndim}; leave ndim out")
        if self.freeze_base and self.net is None and "net" in self.model_fields_set:  # --from may bring one
            raise ValueError("freeze_base keeps a net as it is, and there is none; leave it out, or set net")
        if self.beside and self.net is None and "net" in self.model_fields_set:
            raise ValueError(
                "beside is what stands beside the embedding of a net, and there is none; leave it out, or set net"
            )
        if self.net is not None:
            check_deviations(self.beside, self.net.ndim)
        if isinstance(self.target, Affinities) and self.target.offsets is not None:
            try:
                check_offsets(self.target.offsets, self.axes)
            except UserError as error:
                raise ValueError(f"target: {error}") from None
        return self

    @property
    def axes(self) -> int:
        """Spatial axes of the images."""
        return self.net.ndim if self.net is not None else self.ndim or 2

    @property
    def names(self) -> tuple[str, ...]:
        """What each output is."""
        return self.target.names(self.axes)

    def build_net(self) -> HeadNet:
        from lamella.tasks.head.net import HeadNet

        base = None if self.net is None else build_beside(self.net, self.channels, self.h_channels, self.beside)
        read = self.channels if base is None else base.out_channels
        return HeadNet(
            base,
            self.head.build(self.axes, read, len(self.names)),
            ndim=self.axes,
            in_channels=self.channels,
            out_channels=len(self.names),
            frozen=self.freeze_base,
        )

    def build(self) -> HeadTask:
        from lamella.tasks.head.task import HeadTask

        return HeadTask(self)
