"""What defines a translation, except data and training length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from lamella.core.config import Config
from lamella.data.augment import Imaging, Specimen
from lamella.data.augment.affine import Rotate, Scale
from lamella.data.augment.arrange import Mirror, Transpose
from lamella.data.augment.base import Uniform
from lamella.data.augment.trim import Trim
from lamella.nets.stack_unet import StackUNetConfig
from lamella.nets.unet import UNetConfig
from lamella.tasks.translate.loss import NAMED, LossConfig
from lamella.tasks.translate.net import Final

if TYPE_CHECKING:
    from lamella.nets.stack_unet import StackUNet
    from lamella.nets.unet import UNet
    from lamella.tasks.translate.task import TranslateTask


def default_net() -> UNetConfig:
    """A U-Net of a million parameters that works on a grid of every second pixel."""
    return UNetConfig(features=(32, 64, 128, 128), fold=2, residual=True, skip="add", edges="replicate")


def default_specimen() -> tuple[Specimen, ...]:
    """Specimens turned, mirrored, and a little larger or smaller: input and target together."""
    return (
        Rotate(p=1.0),
        Scale(p=0.5, factor=Uniform(low=0.85, high=1.18), axes=("y", "x")),
        Mirror(axes=("y", "x")),
        Transpose(),
    )


class TranslateConfig(Config):
    """Everything that defines a translation, except data and training length."""

    kind: Literal["translate"] = "translate"
    channels: int = Setting(1, ge=1, description="input channels; those of data.inputs")
    targets: int = Setting(1, ge=1, description="channels that the net gives; those of data.targets")
    depth: int = Setting(1, ge=1, description="slices of the window that the net sees, odd; that of data")
    net: Annotated[UNetConfig | StackUNetConfig, Setting(discriminator="kind")] = default_net()
    learn: Literal["regression", "segmentation"] = Setting(
        "regression", description="intensities, or 1 inside and 0 outside"
    )
    loss: LossConfig = Setting(LossConfig(terms=NAMED["ms-ssim-l1"]), description="name of a loss, or its terms")
    final: Final = Setting(
        "none", description="last activation: none, sigmoid, relu, softplus or tanh; a segmentation's is sigmoid"
    )
    specimen: tuple[Specimen, ...] = default_specimen()
    imaging: tuple[Imaging, ...] = ()
    trim: Trim = 1.0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """A segmentation has its own loss and last activation."""
        if isinstance(values, Mapping) and values.get("learn") == "segmentation":
            return {"loss": "bce-dice", "final": "sigmoid", **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> TranslateConfig:
        segments = self.learn == "segmentation"
        if segments != self.loss.of_segmentation:
            told = ", ".join(term.kind for term in self.loss.terms)
            need = "bce, dice or bce-dice" if segments else "mae, mse, dssim-l1, ms-ssim-l1 or half"
            raise ValueError(f"a loss of {told} does not suit learn {self.learn!r}; choose {need}")
        if segments and self.final != "sigmoid":
            raise ValueError(f"final {self.final!r} does not suit a segmentation; leave it out, or take sigmoid")
        if self.depth % 2 == 0:
            raise ValueError(
                f"depth {self.depth} is even, so no slice is in the middle; choose {self.depth - 1} or {self.depth + 1}"
            )
        if self.depth > 1 and self.net.ndim == 3:
            raise ValueError(f"depth {self.depth} is for 2D and 2.5D nets; with task.net.ndim 3 slices are an axis")
        return self

    @property
    def whole_window(self) -> bool:
        """Whether the net gives all slices of a window."""
        return isinstance(self.net, StackUNetConfig) and self.net.output == "stack"

    def build_net(self) -> UNet | StackUNet:
        if isinstance(self.net, StackUNetConfig):
            return self.net.build(self.channels, self.targets, self.depth)
        return self.net.build(self.channels * self.depth, self.targets)

    def build(self) -> TranslateTask:
        from lamella.tasks.translate.task import TranslateTask

        return TranslateTask(self)


def following(task: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values of the task, with what it leaves out that follows from those of the data: channels, targets, depth."""
    told: dict[str, Any] = {}
    for name, key in (("channels", "inputs"), ("targets", "targets")):
        if isinstance(data.get(key), list | tuple):
            told[name] = max(len(data[key]), 1)
    if isinstance(data.get("depth"), int):
        told["depth"] = data["depth"]
    return {**told, **task}
