"""Frames to learn translation from: what one microscope shows, and what another shows at the same place.

Sample ``i`` is drawn from the random stream (seed, i) alone, so a resumed run goes on with the samples that the interrupted one
would have seen, with any number of workers. A sample has

- ``image`` (image, (1, c, *space), float32): the input channels, normalised; with ``depth`` the slices of the window follow each
  other as channels, those of the first channel first;
- ``target`` (image, or label if binary; (1, t, *space), float32): the targets, 0 and 1 at two percentiles of what is trained on
  (``target_range``); with ``whole_window`` all slices of each;
- ``weight`` (weight, as ``target``): 0 where a target does not exist, outside the image, in the crop's ``context`` and, with
  ``weigh``, outside the foreground; otherwise 1, or what the border weight map says.

Space is ``y x``, or ``z y x`` with ``ndim`` 3.

What was measured and how samples were divided is filled in by ``settled``; a run's recipe holds it, so that nothing else is needed to
predict or to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.data.crops import Crops, check_sides, per_axis
from lamella.data.frames_image import Finish, Unit
from lamella.data.frames_measure import statistics, units
from lamella.data.frames_samples import IMAGE, TARGET, WEIGHT, FramesSamples, FramesTiles
from lamella.data.frames_split import Part, Split
from lamella.data.frames_stack import Channel, Channels, FramesSource, Stack, open_stacks, restricted
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing, root_of
from lamella.ops.tiles import TileRule

__all__ = ["IMAGE", "TARGET", "WEIGHT", "FramesData"]


class Measured(Config):
    """What training found of the targets."""

    numbers: tuple[int, ...]
    """Of the target channels, as statistics know them; none where the target is the foreground."""
    names: tuple[str, ...]
    """What predictions are called."""
    units: tuple[Unit, ...] | None = None
    """Values of the preprocessing's view that become 0 and 1; none where targets are 0 and 1 already."""
    inputs: tuple[int, ...] = ()
    """Of the input channels, as statistics know them."""
    dtype: str = "float32"
    """Type of the raw target frames."""


class FramesData(Channels):
    """Which channels of which positions, how they are normalised, divided and cropped."""

    held_out_needs_length: ClassVar[bool] = False  # without one, every slice is validated on once

    kind: Literal["frames"] = "frames"
    sources: tuple[FramesSource, ...] = Field(min_length=1, description="experiments")
    preprocessing: Preprocessing = Field(
        Preprocessing(),
        description="folder or file of 'lamella prep', or its values; what is not measured is not applied",
    )
    centre: Literal["median", "mean"] = Field(
        "median",
        description="how channels are normalised where the preprocessing has no statistics: median and interquartile range, or "
        "mean and standard deviation, of what is trained on",
    )
    target_range: tuple[float, float] = Field(
        (1.0, 99.9), description="percentiles of a target that become 0 and 1 for the loss"
    )
    clip: bool = Field(True, description="cut targets to 0 and 1")
    measured: Measured | None = Field(None, description="names, and values at target_range; found when training begins")
    split: Split | None = Field(None, description="how samples are divided; or the path of a split.json, or of a run")
    part: Part | None = Field(None, description="part of the split; train for data, validation for validation")

    crop: int | tuple[int, ...] = Field(256, description="size of a crop in pixels, one or one for each axis")
    context: int | tuple[int, ...] = Field(
        0, description="pixels at the edges of a crop that are shown but do not count"
    )
    overhang: int | tuple[int, ...] = Field(
        0,
        description="pixels by which drawn crops may reach beyond the image, for augmentations that cut the edges off again",
    )
    min_fraction: float | None = Field(
        None, ge=0, le=1, description="least foreground of a crop; that of the preprocessing's tiles if not given"
    )
    weigh: Literal["none", "mask", "weights"] = Field(
        "none", description="what counts in the loss: all, the foreground, or as the border weight maps say"
    )
    length: int | None = Field(None, ge=1, description="number of different samples, which then repeat; none: no end")
    cache_gb: float = Field(4.0, ge=0, description="memory for frames; what does not fit is read crop by crop")

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _load(cls, value: Any) -> Any:
        return Preprocessing.load(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> FramesData:
        check_sides(self.ndim, self.crop, self.context, self.overhang)
        low, high = self.target_range
        if not 0 <= low < high <= 100:
            raise ValueError(f"target_range {self.target_range} must be two percentiles, the lower first")
        needs = {"mask": self.preprocessing.masks is not None, "weights": self.preprocessing.weights}
        if not needs.get(self.weigh, True):
            option = " --weights" if self.weigh == "weights" else ""
            raise ValueError(
                f"weigh {self.weigh!r} needs what 'lamella prep masks{option}' makes; give data.preprocessing"
            )
        if self.min_fraction and self.preprocessing.masks is None:
            raise ValueError(f"min_fraction {self.min_fraction} needs masks; make them with 'lamella prep masks'")
        return self

    def per_axis(self, size: int | tuple[int, ...]) -> tuple[int, ...]:
        """One size for each spatial axis."""
        return per_axis(size, self.ndim)

    def crops(self, slices: int = 1) -> Crops:
        """How crops lie in images, with so many slices as channels."""
        crop, context, overhang = (self.per_axis(size) for size in (self.crop, self.context, self.overhang))
        return Crops(self.ndim, crop, context, slices, overhang)

    @property
    def rule(self) -> TileRule:
        """Which crops have enough foreground."""
        known = self.preprocessing.tiles.min_fraction if self.preprocessing.tiles is not None else 0.0
        return TileRule(min_fraction=known if self.min_fraction is None else self.min_fraction)

    @property
    def is_settled(self) -> bool:
        divided = self.split is None or self.split.parts is not None
        return divided and self.preprocessing.statistics is not None and self.measured is not None

    def settled(self) -> FramesData:
        """With everything written down that is measured or dealt out, by the training part alone."""
        if self.is_settled:
            return self
        data = self
        if data.split is not None:
            values = _column(data._opened(), data.split.column, data.ndim)
            data = data.model_copy(update={"split": data.split.settled(values)})
        if data.preprocessing.statistics is None:
            found = statistics(data._divided(data._opened(), "train"), data, data.centre, root_of(data.sources[0].path))
            measures = data.preprocessing.model_copy(update={"statistics": found})
            data = data.model_copy(update={"preprocessing": measures})
        if data.measured is None:
            data = data.model_copy(update={"measured": data._measure()})
        return data

    def _measure(self) -> Measured:
        stacks = self._divided(self._opened(), "train")
        numbers = stacks[0].numbers[1]
        found = units(stacks, self, self.target_range) if self.target == "intensity" else None
        dtype = (
            stacks[0].targets.volume.source.dtype.name if isinstance(stacks[0].targets.volume, Prepared) else "float32"
        )
        names = _names(stacks[0], self.targets)
        return Measured(numbers=numbers, names=names, units=found, inputs=stacks[0].numbers[0], dtype=dtype)

    def like(self, settled: FramesData) -> FramesData:
        """Held-out data with what ``settled`` measured and dealt out of the training data."""
        changes: dict[str, Any] = {"preprocessing": settled.preprocessing, "measured": settled.measured}
        if self.split is not None and settled.split is not None and self.split.parts is None:
            changes["split"] = settled.split
        return self.model_copy(update=changes)

    def build(self, seed: int) -> FramesSamples:
        """Open all positions; frames are read when they are first drawn.

        Raises UserError, naming the position, for channels and slices that are not there, and for masks that leave nothing.
        """
        data = self.settled()
        return FramesSamples(data, data.stacks("train"), seed)

    def held_out(self, seed: int) -> FramesSamples | FramesTiles:
        """Samples to validate on: ``length`` of them, or tiles that cover every slice once."""
        data = self.settled()
        stacks = data.stacks("validation")
        return FramesSamples(data, stacks, seed) if self.length is not None else FramesTiles(data, stacks)

    def stacks(self, part: Part) -> list[Stack]:
        """The stacks of a part (``self.part`` if that is given), with what fits of their frames kept in memory once read."""
        stacks = self._divided(self._opened(), part)
        room = self.cache_gb * 1e9
        for image in (image for stack in stacks for image in stack.images):
            if image.num_bytes <= room:
                room -= image.num_bytes
                image.keep()
        return stacks

    def _opened(self) -> list[Stack]:
        found = self.measured.units if self.measured is not None else None
        finish = Finish(found, self.clip and found is not None, self.target == "binary")
        return open_stacks(self.sources, self, self.preprocessing, finish)

    def _divided(self, stacks: list[Stack], part: Part) -> list[Stack]:
        if self.split is None:
            return stacks
        assert self.split.parts is not None
        column, chosen = self.split.column, set(self.split.parts.get(self.part or part, ()))
        left = restricted(stacks, lambda stack, z: stack.values[column][z] in chosen)
        if not left:
            raise UserError(f"part {self.part or part!r} of the split by {column} is empty; change data.split's shares")
        return left


def _column(stacks: Sequence[Stack], column: str, ndim: int) -> list[str]:
    """All different values of a column at the slices that can be learnt from, in order."""
    found: dict[str, None] = {}
    for stack in stacks:
        if column not in stack.values:
            raise UserError(
                f"there is no column {column!r} to split by, only {', '.join(stack.values)}; choose one of those"
            )
        values = dict.fromkeys(stack.values[column][z] for z in stack.planes)
        if ndim == 3 and len(values) > 1:
            raise UserError(
                f"{stack.name} has {len(values)} values of {column!r}, and volumes are not cut up; split by position"
            )
        found |= values
    return list(found)


def _names(stack: Stack, targets: Sequence[Channel]) -> tuple[str, ...]:
    """What targets are called: by the names given, those of the volume, or their numbers."""
    volume = stack.inputs.volume
    known, first = volume.meta.channel_names, volume.box.start[1]
    numbers = stack.numbers[1]
    named = [(known[n - first] if known else "") or f"c{n:03d}" for n in numbers]
    return tuple(named) if targets else ("foreground",)
