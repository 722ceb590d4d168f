"""What defines a detector of defects, except data and training length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from lamella.core.config import Config
from lamella.data.augment import Imaging, Specimen
from lamella.data.augment.affine import Rotate, Scale
from lamella.data.augment.arrange import Mirror, Transpose
from lamella.data.augment.base import Uniform
from lamella.data.augment.covers import Blackout
from lamella.data.augment.grain import Blur, Noise
from lamella.data.augment.lighting import Brightness, Compress, Gamma, Limit
from lamella.data.augment.painted import Debris, Rift, Wrinkle
from lamella.data.augment.patterns import Gradients
from lamella.data.augment.seams import Crack, Fold
from lamella.data.augment.trim import Trim
from lamella.nets.unet import UNetConfig
from lamella.tasks.defects.masks import MaskConfig
from lamella.tasks.defects.net import DEFECTS, Defect

if TYPE_CHECKING:
    from lamella.tasks.defects.task import DefectsTask

DAMAGE: dict[str, Defect] = {
    "rift": "crack",
    "crack": "crack",
    "wrinkle": "fold",
    "fold": "fold",
    "debris": "cover",
    "blackout": "cover",
}
"""What each kind of damage is to the net."""


def default_net() -> UNetConfig:
    """A U-Net of half a million parameters that sees some 70 pixels around each."""
    return UNetConfig(features=(16, 32, 64, 96), fold=2, residual=True, skip="add")


def default_specimen() -> tuple[Specimen, ...]:
    """Sections turned, mirrored, and magnified or shrunk."""
    return (Rotate(p=1.0), Scale(p=0.5, factor=Uniform(low=0.75, high=1.33)), Mirror(), Transpose())


def default_damage() -> tuple[Specimen, ...]:
    """Cracks, folds, dirt and bare patches, each in a part of the crops; about one crop in four stays clean."""
    return (
        Wrinkle(p=0.25),
        Fold(p=0.08),
        Rift(p=0.25),
        Crack(p=0.08),
        Debris(p=0.2),
        Debris(p=0.1, most=1, radius=(40.0, 150.0), fills=("dark", "light", "grey")),
        Blackout(p=0.06),
    )


def default_imaging() -> tuple[Imaging, ...]:
    """What is no defect: other light, uneven light, poor focus, grain."""
    return (
        Gradients(p=0.3, peak=(0.0, 0.2)),
        Brightness(p=0.5, factor=(1.0, 1.4), offset=(0.0, 0.2)),
        Compress(p=0.3, factor=(1.0, 2.0)),
        Gamma(p=0.5),
        Blur(p=0.3, sigma=(0.4, 1.5)),
        Noise(p=0.5, std=(0.0, 0.08)),
        Limit(),
    )


class DefectsConfig(Config):
    """Everything that defines a detector, except data and training length."""

    kind: Literal["defects"] = "defects"
    net: UNetConfig = default_net()
    kinds: tuple[Defect, ...] = Setting(DEFECTS, min_length=1, description="what the net tells apart")
    smoothing: float = Setting(
        0.25, ge=0, lt=1, description="share of a pixel that the net sees of its eight neighbours, against grain"
    )
    dice_weight: float = Setting(0.5, ge=0, description="weight of the Dice overlap against the cross entropy")
    specimen: tuple[Specimen, ...] = default_specimen()
    damage: tuple[Specimen, ...] = Setting(
        default_damage(), min_length=1, description="what is put into clean sections; the last lies on top"
    )
    imaging: tuple[Imaging, ...] = default_imaging()
    trim: Trim = 0.706
    masks: MaskConfig = Setting(MaskConfig(), description="how masks are made of the maps")

    @model_validator(mode="after")
    def _check(self) -> DefectsConfig:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds {list(self.kinds)} must name each kind once")
        if wrong := [d.kind for d in self.damage if d.kind not in DAMAGE]:
            raise ValueError(f"damage of kind {wrong[0]!r} is no defect; choose from {', '.join(DAMAGE)}")
        unseen = set(self.kinds) - {DAMAGE[d.kind] for d in self.damage}
        if unseen:
            raise ValueError(
                f"kinds {', '.join(sorted(unseen))} are to be found, and no damage shows them; add some, or leave them out"
            )
        if self.net.ndim != 2 or self.net.padding != "same":
            raise ValueError("sections are flat and have masks to their edges; set net.ndim=2 and net.padding=same")
        return self

    def build(self) -> DefectsTask:
        from lamella.tasks.defects.task import DefectsTask

        return DefectsTask(self)
