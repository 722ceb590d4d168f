"""A trained detector, ready for any stack of sections: how sections are normalised, the net, and how masks are made of its maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.infer import InferSettings, NetOp, PlaneOp
from lamella.infer.op import weights_digest
from lamella.io.statistics import sample_voxels
from lamella.io.views import View
from lamella.ops.normalise import Normaliser
from lamella.tasks.defects.masks import MISSING, DefectMethod, MaskConfig
from lamella.tasks.defects.net import DefectNet


@dataclass(frozen=True)
class Detector:
    """Everything that a run says about finding defects."""

    net: DefectNet
    normalise: Normaliser
    masks: MaskConfig
    settings: InferSettings = field(default_factory=InferSettings)
    device: str = "cpu"

    @property
    def method(self) -> DefectMethod:
        """How masks are made of the maps."""
        return self.masks.build(self.net.kinds)

    def op(self) -> DefectOp:
        """From normalised sections (1, z, y, x) to their maps."""
        return DefectOp(PlaneOp(NetOp(self.net, _as_it_is, settings=self.settings, device=self.device)))

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two detectors that find the same."""
        return {
            "weights": weights_digest(self.net),
            "normaliser": repr(self.normalise),
            "masks": self.masks.to_dict(),
            "settings": self.settings.to_dict(),
            "dtype": str(self.settings.dtype(self.device)),
        }


class DefectOp:
    """The probabilities of each kind, 0 where data are missing, and as the last map where they are."""

    def __init__(self, op: PlaneOp) -> None:
        self.op, self.context, self.stride = op, op.context, op.stride

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), MISSING: True}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        missing = patch[:1] == 0
        return np.concatenate([np.where(missing, 0, self.op(patch)), missing]).astype(np.float32)


class Sections(View):
    """Sections normalised as they are read. One that goes by the statistics of whole sections is given those of each, measured
    once on a fair sample, so that memory stays that of the tile."""

    def __init__(self, source: Volume, normaliser: Normaliser) -> None:
        super().__init__(source)
        self.normaliser = normaliser
        self._measured: dict[tuple[int, ...], Normaliser] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def read(self, box: Box) -> NDArray[np.float32]:
        result = np.empty(box.shape, np.float32)
        for index in np.ndindex(box.shape[:-2]):
            lead = tuple(a + i for a, i in zip(box.start, index, strict=False))
            normaliser = self._of(lead)
            around = Box(box.start[-2:], box.stop[-2:]).grow(normaliser.context(self.source.dtype) or 0)
            around = around.intersect(self._plane)
            section = self.source.read(_at(lead, around)).reshape(around.shape)
            result[index] = normaliser(section)[Box(box.start[-2:], box.stop[-2:]).slices(around.start)]
        return result

    def _of(self, lead: tuple[int, ...]) -> Normaliser:
        """The normaliser of a section, which looks no farther than its context."""
        if self.normaliser.context(self.source.dtype) is not None:
            return self.normaliser
        if lead not in self._measured:
            self._measured[lead] = self.normaliser.measured(sample_voxels(self.source, _at(lead, self._plane)))
        return self._measured[lead]

    @property
    def _plane(self) -> Box:
        return Box(self.box.start[-2:], self.box.stop[-2:])


def _at(lead: tuple[int, ...], plane: Box) -> Box:
    return Box((*lead, *plane.start), (*(n + 1 for n in lead), *plane.stop))


def _as_it_is(patch: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(patch, np.float32)
