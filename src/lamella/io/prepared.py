"""The views that a ``Preprocessing`` makes: a raw volume as a net sees it, and a prediction back in the raw volume's units."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import check_box
from lamella.io.frames import FRAMES, present
from lamella.io.plan import meta_at
from lamella.io.preprocessing import Group, Preprocessing, root_of
from lamella.io.views import View, expanded
from lamella.ops.resize import resize, scaled_range, source_range

AXES = "tczyx"


class Prepared(View):
    """``source`` (axes ``t c z y x``) corrected, resized and normalised, as float32."""

    def __init__(self, source: Volume, measures: Preprocessing, normalise: bool = True) -> None:
        super().__init__(expanded(source, AXES))
        self.measures = measures
        self.normalise = normalise and measures.statistics is not None
        self.scales = (measures.resize.z, measures.resize.yx, measures.resize.yx)
        self.there = present(self.source)
        self.position = self._position() if self.normalise else ""
        box = self.source.box
        self._check(box)
        ranges = [scaled_range(a, b, s) for a, b, s in zip(box.start[2:], box.stop[2:], self.scales, strict=True)]
        self._box = Box((*box.start[:2], *(a for a, _ in ranges)), (*box.stop[:2], *(b for _, b in ranges)))

    def _check(self, box: Box) -> None:
        if self.measures.resize.z != 1 and not self.there.all():
            missing = sorted({box.start[1] + int(c) for _, c, _ in np.argwhere(~self.there)})
            raise UserError(
                f"{self.path} cannot be resized along z: channels {', '.join(map(str, missing))} lack slices; leave z as it is, or "
                "give channels that have all"
            )
        for channel, shading in self.measures.shading.items():
            if box.start[1] <= channel < box.stop[1] and shading.shape != box.shape[3:]:
                raise UserError(
                    f"the shading of channel {channel} was measured on images of {shading.shape}, those of {self.path} are "
                    f"{box.shape[3:]}; measure it on images of this size"
                )

    def _position(self) -> str:
        """The name by which statistics know this volume."""
        statistics = self.measures.statistics
        assert statistics is not None
        if statistics.level == "dataset":
            return ""
        here, root = root_of(self.path), statistics.source
        if here == root:
            return ""
        if not here.startswith(f"{root}/"):
            raise UserError(
                f"{self.path} is no position of {root}, where statistics of level {statistics.level} were measured; measure those "
                "of this one with 'lamella prep statistics', or normalise by the data set"
            )
        return here[len(root) + 1 :]

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def chunk(self) -> tuple[int, ...]:
        scaled = (max(round(n * s), 1) for n, s in zip(self.source.chunk[2:], self.scales, strict=True))
        return (*self.source.chunk[:2], *(min(n, m) for n, m in zip(scaled, self.box.shape[2:], strict=True)))

    @property
    def meta(self) -> Meta:
        meta = meta_at(self.source.meta, (1.0, 1.0, *(1 / s for s in self.scales)))
        told = dict(meta.provenance)
        if self.scales[0] != 1:
            told.pop(FRAMES, None)  # its slices are numbered as in the source
        return replace(meta, provenance=told)

    def read(self, box: Box) -> NDArray[np.float32]:
        check_box(self, box)
        result = np.zeros(box.shape, np.float32)
        if box.is_empty:
            return result
        for t, c in product(*(range(a, b) for a, b in zip(box.start[:2], box.stop[:2], strict=True))):
            result[t - box.start[0], c - box.start[1]] = self._stack(t, c, Box(box.start[2:], box.stop[2:]))
        return result

    def _stack(self, t: int, c: int, box: Box) -> NDArray[np.float32]:
        """One channel at one time (z, y, x)."""
        whole = self.source.box
        edges = zip(box.start, box.stop, self.scales, whole.start[2:], whole.stop[2:], strict=True)
        ranges = [source_range(a, b, s, (low, high)) if s != 1 else (a, b) for a, b, s, low, high in edges]
        around = Box((t, c, *(a for a, _ in ranges)), (t + 1, c + 1, *(b for _, b in ranges)))
        stack = self._lit(c, around, self.source.read(around)[0, 0])
        results = list(zip(box.start, box.stop, strict=True))
        stack = resize(stack, around.start[2:], results, self.scales)
        if self.measures.resize.z == 1:
            there = self.there[t - whole.start[0], c - whole.start[1]]
            exists = there[box.start[0] - whole.start[2] : box.stop[0] - whole.start[2]]
        else:
            exists = np.ones(box.shape[0], bool)
        for i, z in enumerate(range(box.start[0], box.stop[0])):
            if not exists[i]:
                stack[i] = 0
            elif self.normalise:
                stack[i] = normalised_frame(stack[i], self._group(c, t, z))
        return stack

    def _lit(self, channel: int, box: Box, raw: NDArray[Any]) -> NDArray[np.float32]:
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            z = box.start[2] + int(np.argwhere(~np.isfinite(raw))[0, 0])
            raise UserError(
                f"{self.path} holds NaN or infinity in channel {channel}, slice {z}, time {box.start[0]}; replace them by a number, "
                "or leave the frame out of the table"
            )
        shading = self.measures.shading.get(channel)
        if shading is None:
            return raw.astype(np.float32)
        start = [a - b for a, b in zip(box.start[3:], self.source.box.start[3:], strict=True)]
        return shading.correct(raw, start)

    def _group(self, channel: int, time: int, z: int) -> Group:
        assert self.measures.statistics is not None
        return self.measures.statistics.group(channel, self.position, time, z)


def normalised_frame(image: NDArray[np.floating], group: Group) -> NDArray[np.float32]:
    """Clipped, then centred and scaled: the only place where either is done."""
    if group.low is not None or group.high is not None:
        image = np.clip(image, group.low, group.high)
    return ((image - np.float32(group.centre)) / np.float32(group.spread)).astype(np.float32)


class Restored(View):
    """A prediction on the grid of ``Prepared``, in the units and on the grid of the raw volume."""

    def __init__(
        self, prediction: Volume, measures: Preprocessing, channels: tuple[int, ...], like: Volume, dtype: Any
    ) -> None:
        super().__init__(expanded(prediction, AXES))
        self.measures, self.channels, self._dtype = measures, channels, np.dtype(dtype)
        own, raw = self.source.box, expanded(like, AXES)
        if own.shape[1] != len(channels):
            raise UserError(f"{self.path} has {own.shape[1]} channels, {len(channels)} were named; name each")
        self.scales = tuple(1 / s for s in (measures.resize.z, measures.resize.yx, measures.resize.yx))
        self._meta = replace(raw.meta, provenance=dict(self.source.meta.provenance), channel_names=self._names(raw))
        self._box = Box((own.start[0], 0, *raw.box.start[2:]), (own.stop[0], len(channels), *raw.box.stop[2:]))

    def _names(self, raw: Volume) -> tuple[str, ...]:
        names, first = raw.meta.channel_names, raw.box.start[1]
        return tuple(names[c - first] for c in self.channels) if names else ()

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def meta(self) -> Meta:
        return self._meta

    def read(self, box: Box) -> NDArray[Any]:
        check_box(self, box)
        if box.is_empty:
            return np.zeros(box.shape, self.dtype)
        own = self.source.box
        edges = zip(box.start[2:], box.stop[2:], self.scales, own.start[2:], own.stop[2:], strict=True)
        ranges = [source_range(a, b, s, (low, high)) if s != 1 else (a, b) for a, b, s, low, high in edges]
        first = own.start[1]
        around = Box(
            (box.start[0], first + box.start[1], *(a for a, _ in ranges)),
            (box.stop[0], first + box.stop[1], *(b for _, b in ranges)),
        )
        values = self.source.read(around).astype(np.float32)
        for i, channel in enumerate(self.channels[box.start[1] : box.stop[1]]):
            values[:, i] = self._in_units(values[:, i], channel)
        results = list(zip(box.start[2:], box.stop[2:], strict=True))
        return as_type(resize(values, around.start[2:], results, self.scales), self.dtype)

    def _in_units(self, values: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        if self.measures.statistics is None:
            return values
        group = self.measures.statistics.typical(channel)
        return values * np.float32(group.spread) + np.float32(group.centre)


def as_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Rounded and cut to the range of an integer type."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.rint(values.astype(np.float64)), info.min, info.max).astype(dtype)
