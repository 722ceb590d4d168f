"""What is translated: positions of an experiment, or images, each opened and checked before anything is computed.

The net knows channels by the numbers that they had in training. A source may have them elsewhere, and nothing else: ``Inputs`` shows
of it the input channels alone, numbered as in training, at the slices where all of them exist. Targets are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.volume import Meta, Volume
from lamella.data.image_source import Part
from lamella.data.inputs import attempt, named_files
from lamella.io import open_volume, positions_of, present
from lamella.io.frames import FRAMES
from lamella.io.positions import open_positions
from lamella.io.preprocessing import channel_numbers
from lamella.io.views import View, expanded
from lamella.tasks.translate.predict_settings import TranslateSettings
from lamella.tasks.translate.translator import Translator

_FEW = 8


class Inputs(View):
    """``source`` (t c z y x) with only the channels that ``numbers`` names: ``numbers[n]`` of the source is channel ``n`` here.

    ``slices`` are the coordinates along z that it has.
    """

    def __init__(self, source: Volume, numbers: Mapping[int, int], slices: range) -> None:
        super().__init__(source)
        self.numbers, self.slices = dict(numbers), slices
        box, used = source.box, sorted(self.numbers)
        start = (box.start[0], used[0], slices.start, *box.start[3:])
        self._box = Box(start, (box.stop[0], used[-1] + 1, slices.stop, *box.stop[3:]))

    @property
    def box(self) -> Box:
        return self._box

    @property
    def chunk(self) -> tuple[int, ...]:
        return tuple(min(c, n) for c, n in zip(self.source.chunk, self.box.shape, strict=True))

    @property
    def meta(self) -> Meta:
        """Without names of channels and without a list of frames: all that it has exist."""
        meta = self.source.meta
        told = {k: v for k, v in meta.provenance.items() if k not in (FRAMES, "source_provenance")}
        return replace(meta, channel_names=(), provenance=told)

    def read(self, box: Box) -> NDArray[Any]:
        result = np.zeros(box.shape, self.dtype)
        for k, channel in enumerate(range(box.start[1], box.stop[1])):
            if channel in self.numbers:
                own = self.numbers[channel]
                start, stop = (box.start[0], own, *box.start[2:]), (box.stop[0], own + 1, *box.stop[2:])
                result[:, k] = self.source.read(Box(start, stop))[:, 0]
        return result


@dataclass(frozen=True)
class Item:
    """One position or image: what it is called, its volume as it was found, and its inputs as the net knows them."""

    name: str
    path: str
    raw: Volume
    inputs: Inputs

    @property
    def times(self) -> int:
        return self.inputs.box.shape[0]

    def parts(self, translator: Translator) -> list[Part]:
        """The view of each time: what the net sees."""
        view = translator.view(self.inputs)
        box = Box.of(view.box.shape[2:])
        first = view.box.start[1]
        channels = tuple(n - first for n in translator.trained_inputs)
        return [Part(view, box, time, channels) for time in range(self.times)]


@dataclass(frozen=True)
class Source:
    """What can be translated; ``experiment``: items are positions of one folder of frames or plate."""

    path: str
    items: tuple[Item, ...]
    experiment: bool
    left_out: tuple[str, ...] = ()


def find_source(
    paths: Sequence[str],
    translator: Translator,
    settings: TranslateSettings,
    *,
    dataset: str | None = None,
    mip: int = 0,
) -> Source:
    """Open what is at ``paths``: one experiment, or any number of images, volumes and folders of images.

    Raises UserError, naming the position, for what cannot be opened or lacks an input; with ``settings.skip_bad`` only if nothing is
    left.
    """
    experiment = len(paths) == 1 and bool(positions_of(paths[0]))
    if experiment:
        volumes: dict[str, Any] = {n: partial(_given, v) for n, v in open_positions(paths[0]).items()}
        files = dict.fromkeys(volumes, paths[0])
    else:
        named = [pair for path in paths for pair in named_files(path)]
        volumes = {name: partial(open_volume, file, dataset=dataset, mip=mip) for name, file in named}
        files = dict(named)
        if len(volumes) < len(named):
            raise UserError("two images have one name; translate them one after the other")
    wanted = settings.positions or ((dataset,) if dataset and experiment else tuple(volumes))
    unknown = [name for name in wanted if name not in volumes]
    if unknown:
        raise UserError(
            f"positions {_listed(unknown)} are not in {paths[0]}, which has {_listed(list(volumes))}; choose of those"
        )
    items, left_out = [], []
    with progress("opening images", len(wanted), "images") as meter:
        for name in wanted:
            open_it = partial(_open, name, volumes[name], translator, settings.channels)
            found = attempt(open_it, f"{files[name]}, {name}", settings.skip_bad, alone=len(wanted) == 1)
            if isinstance(found, str):
                left_out.append(found)
            else:
                items.append(found)
            meter.advance()
    if not items:
        raise UserError(f"none of the images can be used; the first problem: {left_out[0]}")
    return Source(paths[0], tuple(items), experiment, tuple(left_out))


def _given(volume: Volume) -> Volume:
    return volume


def _open(name: str, opener: Any, translator: Translator, channels: tuple[str, ...] | None) -> Item:
    raw = opener()
    axes = raw.meta.axes
    if axes[-2:] != ("y", "x") or "n" in axes or raw.dtype.kind not in "buif":
        raise UserError(
            f"{raw.path} has axes {' '.join(axes)} and holds {raw.dtype}; images are numbers with the axes y x, and t c z before them"
        )
    volume = expanded(raw, "tczyx")
    own = _numbers(volume, translator, channels)
    slices = _slices(volume, own, translator.depth)
    return Item(name, raw.path, raw, Inputs(volume, dict(zip(translator.trained_inputs, own, strict=True)), slices))


def _numbers(volume: Volume, translator: Translator, channels: tuple[str, ...] | None) -> tuple[int, ...]:
    """The channels of ``volume`` that stand for the inputs: those asked for, those of training, or the only ones if none is named."""
    count = len(translator.inputs)
    if channels is not None:
        if len(channels) != count:
            raise UserError(
                f"--channels names {len(channels)} channels, the net was trained on {count}; name each in order"
            )
        return channel_numbers(volume, channels)
    try:
        return channel_numbers(volume, translator.inputs)
    except UserError as error:
        start, stop = volume.box.start[1], volume.box.stop[1]
        if (start, stop) == (0, count) and not any(
            volume.meta.channel_names
        ):  # nothing says what the only channels are
            return tuple(range(count))
        raise UserError(
            f"{error}; say which stand for {_listed(list(map(str, translator.inputs)))} with --channels"
        ) from None


def _slices(volume: Volume, channels: Sequence[int], depth: int) -> range:
    """The slices at which all inputs exist, at all times; they must follow each other."""
    box = volume.box
    there = present(volume)[:, [n - box.start[1] for n in channels]]
    for k, channel in enumerate(channels):
        if not there[:, k].any():
            raise UserError(
                f"{volume.path} has no frames of the input channel {channel}; leave it out with --positions"
            )
    found = np.flatnonzero(there.all((0, 1)))
    first, last = (int(found[0]), int(found[-1])) if len(found) else (0, -1)
    if not len(found) or len(found) < last - first + 1:
        gone = [str(box.start[2] + z) for z in range(first, last + 1) if z not in found]
        told = f"slices {_listed(gone)}" if gone else "some slices at every time"
        raise UserError(
            f"{volume.path} lacks frames of the inputs at {told}; add them, or leave the position out with --positions"
        )
    if len(found) < depth:
        raise UserError(
            f"{volume.path} has {len(found)} slices, fewer than the {depth} that the net sees around each; give volumes of at least "
            f"{depth}"
        )
    return range(box.start[2] + first, box.start[2] + last + 1)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")
