"""A trained translation, ready for any image: what training saw, the net, and the way back to units of intensity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.frames import Measured
from lamella.data.frames_image import Unit
from lamella.data.frames_stack import Channel
from lamella.infer import Blended, InferSettings, NetOp, PlaneOp
from lamella.infer.maps import SpaceOp
from lamella.infer.op import weights_digest
from lamella.infer.windows import WindowOp
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing, channel_numbers
from lamella.tasks.translate.net import Final, Maps, TranslateNet, finished


@dataclass(frozen=True)
class Finish:
    """The last activation of a net; equal and picklable by what it does."""

    final: Final

    def __call__(self, raw: Maps) -> Maps:
        return finished(raw, self.final)


@dataclass(frozen=True)
class Translator:
    """Everything that a run says about predicting.

    ``inputs`` are channels as the recipe names them; ``measured`` says what the outputs are called, which channels they stand for, and
    which values of the preprocessing's view became 0 and 1. ``segments``: outputs are probabilities.
    """

    net: TranslateNet
    preprocessing: Preprocessing
    inputs: tuple[Channel, ...]
    measured: Measured
    depth: int = 1
    segments: bool = False
    mirror: int = 0
    settings: InferSettings = field(default_factory=InferSettings)
    device: str = "cpu"

    @property
    def targets(self) -> tuple[str, ...]:
        """What the outputs are called."""
        return self.measured.names

    @property
    def trained_inputs(self) -> tuple[int, ...]:
        """The numbers that the input channels had in training, by which statistics know them."""
        if self.measured.inputs:
            return self.measured.inputs
        return tuple(int(c) if str(c).isdigit() else k for k, c in enumerate(self.inputs))

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two translators that give the same predictions."""
        return {
            "weights": weights_digest(self.net),
            "preprocessing": self.preprocessing.to_dict(),
            "measured": self.measured.to_dict(),
            "inputs": self.inputs,
            "depth": self.depth,
            "mirror": self.mirror,
            "settings": self.settings.to_dict(),
            "dtype": str(self.settings.dtype(self.device)),
        }

    def view(self, volume: Volume) -> Prepared:
        """A position as the net sees it, all its channels."""
        return self.preprocessing.view(volume)

    def channels(self, volume: Volume) -> tuple[int, ...]:
        """The numbers of the input channels in ``volume``; UserError if it lacks one, or has fewer slices than the window."""
        numbers = channel_numbers(volume, self.inputs)
        axes = volume.meta.axes
        slices = volume.box.shape[axes.index("z")] if "z" in axes else 1
        if slices < self.depth:
            raise UserError(
                f"{volume.path} has {slices} slices, fewer than the {self.depth} that the net sees around each; give volumes of at "
                f"least {self.depth}"
            )
        return numbers

    @property
    def op(self) -> SpaceOp:
        """The net for views: (c, z, y, x), the input channels in order, to (targets, z, y, x), on the scale of training.

        A window that reaches beyond the first or last slice repeats it. Where the net gives all slices of a window, each slice is the
        mean over the windows that hold it, those in whose middle it is counting most.
        """
        net = NetOp(
            self.net, as_floats, Finish(self.net.final), mirror=self.mirror, settings=self.settings, device=self.device
        )
        tiled = Blended(net) if self.settings.overlap is not None or not net.seamless else net
        if self.net.ndim == 3:
            return tiled
        if self.net.out_channels > len(self.targets):
            return WindowOp(tiled, self.depth)
        return PlaneOp(tiled, self.depth)

    @property
    def restore(self) -> tuple[Line, ...]:
        """For each target, the way from the scale of training to units of intensity; segmentations stay as they are."""
        if self.measured.units is None:
            return (Line(1.0, 0.0),) * len(self.targets)
        pairs = zip(self.measured.numbers, self.measured.units, strict=True)
        return tuple(self._line(number, unit) for number, unit in pairs)

    def _line(self, channel: int, unit: Unit) -> Line:
        statistics, (low, high) = self.preprocessing.statistics, unit
        assert statistics is not None
        group = statistics.typical(channel)
        return Line((high - low) * group.spread, low * group.spread + group.centre)


@dataclass(frozen=True)
class Line:
    """``factor * value + offset``."""

    factor: float
    offset: float

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return (values * np.float32(self.factor) + np.float32(self.offset)).astype(np.float32)


def as_floats(patch: NDArray[Any]) -> NDArray[np.float32]:
    """Views are scaled already."""
    return patch.astype(np.float32, copy=False)
