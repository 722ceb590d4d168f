"""What is compared with what: predicted and true positions of equal names, channel by channel, checked before anything is computed.

Either side is a folder of frames, an OME-Zarr plate, a folder of images, or one volume. Position 3 of frames and field ``A/1/3`` of
a plate are the same, as ``lamella convert`` makes them. Frames are matched by their numbers: what exists on one side only is not
compared, so that a stain at one slice can be set against predictions of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.inputs import named_files
from lamella.io import open_volume, positions_of, present
from lamella.io.positions import open_positions, renamed
from lamella.io.preprocessing import Preprocessing, stored_path
from lamella.io.views import expanded
from lamella.ops.image_metrics import Orientation
from lamella.tasks.translate.evaluate_layers import Layer, Nearest, Subject, Subjects, exists
from lamella.tasks.translate.evaluate_settings import ImageSettings

_FEW = 8


def open_subjects(predicted: str, true: str, settings: ImageSettings) -> Subjects:
    """Match positions, channels and frames; raises UserError naming what does not fit, for all positions at once."""
    found, truth = (_experiment(path) for path in (predicted, true))
    if settings.prep is not None:
        even = Preprocessing(shading=Preprocessing.load(settings.prep).shading)
        truth = {name: even.view(volume) for name, volume in truth.items()}
    pairs = _positions(predicted, found, true, truth, settings.positions)
    masks, shown = _aside(settings.masks, pairs, true, "masks"), _aside(settings.inputs, pairs, true, "inputs")
    numbered = bool(positions_of(predicted)) and not any("/" in name for name in found)  # frames, not a plate
    items: list[Subject] = []
    problems: dict[str, list[str]] = {}
    for name, other in pairs.items():
        try:
            channels = _channels(found[name], truth[other], settings.channels, numbered)
            items += _subjects(other or name, found[name], truth[other], channels, masks.get(name), shown.get(name))
        except _NoFitError as error:
            problems.setdefault(str(error), []).append(other or name or truth[other].path)
    if problems:
        told = (
            f"{problem} (at {', '.join(at[:_FEW])}{' and more' if len(at) > _FEW else ''})"
            for problem, at in problems.items()
        )
        raise UserError(f"{predicted} and {true} do not match: {'; '.join(told)}")
    for orientation in settings.orientations:
        _check_stacks(items, orientation)
    return Subjects(tuple(items), tuple(name for name in truth if name not in pairs.values()))


class _NoFitError(Exception):
    """A pair of positions that cannot be compared, and why."""


def _experiment(path: str) -> dict[str, Volume]:
    """The volumes at a path by name, with all axes."""
    if positions_of(path):
        found = open_positions(path)
    else:
        files = named_files(path)
        found = {name: open_volume(file) for name, file in files}
        if len(found) < len(files):
            raise UserError(f"{path} holds images of equal names; leave one of each")
    for name, volume in found.items():
        axes = volume.meta.axes
        if "n" in axes or axes[-2:] != ("y", "x") or volume.dtype.kind not in "buif":
            raise UserError(
                f"{volume.path} has axes {' '.join(axes)} and holds {volume.dtype}; images are numbers with the axes y x, and t c z before"
            )
        found[name] = expanded(volume, "tczyx")
    return found


def _positions(
    path: str, found: Mapping[str, Volume], true: str, truth: Mapping[str, Volume], wanted: Sequence[str] | None
) -> dict[str, str]:
    """For each predicted position the true one."""
    if len(found) == len(truth) == 1 and not wanted:
        return {next(iter(found)): next(iter(truth))}
    pairs = {name: name for name in found if name in truth}
    if not pairs:
        layout = "plate" if all("/" in name for name in truth) else "frames"
        other = renamed(path, list(found), layout) if positions_of(path) and positions_of(true) else {}
        pairs = {name: to for name, to in other.items() if to in truth}
        gone = [name for name, to in other.items() if to not in truth] or [n for n in found if n not in pairs]
    else:
        gone = [name for name in found if name not in truth]
    if wanted is not None:
        named = {to: name for name, to in pairs.items()} | {name: name for name in pairs}
        unknown = [name for name in wanted if name not in named]
        if unknown:
            raise UserError(
                f"positions {_listed(unknown)} are not both in {path} and in {true}; both have {_listed(list(pairs))}"
            )
        return {named[name]: pairs[named[name]] for name in wanted}
    if gone:
        raise UserError(
            f"{len(gone)} of {len(found)} positions of {path} are not in {true}: {_listed(gone)}; it has {_listed(list(truth))}"
        )
    return pairs


def _aside(path: str | None, pairs: Mapping[str, str], true: str, what: str) -> dict[str, Volume]:
    """Volumes of further images by the names of the predicted positions."""
    if path is None:
        return {}
    folder = Path(path)
    if what == "masks" and (folder / "masks.json").is_file():
        return {name: expanded(open_volume(stored_path(folder, "masks", to)), "tczyx") for name, to in pairs.items()}
    there = _experiment(path)
    if len(there) == len(pairs) == 1:
        return {next(iter(pairs)): next(iter(there.values()))}
    gone = [to for name, to in pairs.items() if to not in there and name not in there]
    if gone:
        raise UserError(
            f"--{what} {path} has no {_listed(gone)}; it has {_listed(list(there))}, {true} names positions so too"
        )
    return {name: there[to if to in there else name] for name, to in pairs.items()}


def _subjects(
    position: str,
    found: Volume,
    truth: Volume,
    channels: Sequence[tuple[str, int, int]],
    mask: Volume | None,
    shown: Volume | None,
) -> list[Subject]:
    """A subject for each channel and time."""
    start = _start(found, truth)
    for other, what in ((mask, "masks"), (shown, "inputs")):
        if other is not None and other.box.shape[3:] != truth.box.shape[3:]:
            raise _NoFitError(
                f"the {what} are {_size(other)} pixels, the truth {_size(truth)}; both must have one size"
            )
    compared = {ct for _, _, ct in channels}
    items = []
    for label, cp, ct in channels:
        for time in range(found.box.start[0], found.box.stop[0]):
            at = time - found.box.start[0] + start[0]
            layers = Layer(found, time, cp, _corner(found)), Layer(truth, at, ct, (start[1], *_corner(truth)[1:]))
            planes = _planes(layers, found.box.shape[2])
            if not planes:
                raise _NoFitError(f"there is no slice of channel {label} at time {time} that exists in both")
            beside = _beside(mask, layers[1], 0, nearest=True)
            picture = _picture(shown, layers[1], compared)
            items.append(Subject(position, label, at, *layers, found.box.shape[2:], planes, beside, picture))  # type: ignore[arg-type]
    return items


def _start(found: Volume, truth: Volume) -> tuple[int, int]:
    """The time and slice of the truth at which the prediction's first lie."""
    if found.box.shape[3:] != truth.box.shape[3:]:
        raise _NoFitError(f"the prediction is {_size(found)} pixels, the truth {_size(truth)}; both must have one size")
    start = []
    for axis, name in ((0, "times"), (2, "slices")):
        a, b = (Box(v.box.start[axis : axis + 1], v.box.stop[axis : axis + 1]) for v in (found, truth))
        if a.shape != b.shape and not a.within(b):
            raise _NoFitError(f"the prediction has the {name} {a}, the truth {b}; predict those that there are")
        start.append(b.start[0] if a.shape == b.shape else a.start[0])
    return start[0], start[1]


def _channels(found: Volume, truth: Volume, wanted: Sequence[str] | None, numbered: bool) -> list[tuple[str, int, int]]:
    """Name, predicted channel and true channel of each pair: as told, by name, or by number where numbers mean something."""
    own, other = _names(found), _names(truth)
    if wanted is not None:
        pairs = [pair.split("=") for pair in wanted]
        told = {_channel(own, p, "prediction"): _channel(other, t, "truth") for p, t in pairs}
    elif all(own.values()) and any(other.values()):
        known = {name: number for number, name in other.items()}
        told = {number: known.get(name, -1) for number, name in own.items()}
    elif len(own) == len(other) == 1:
        told = dict(zip(own, other, strict=True))
    elif all(re.fullmatch(r"c\d+", name) for name in own.values()):  # what training calls channels without a name
        told = {number: int(name[1:]) for number, name in own.items()}
    elif numbered or not any(own.values()):
        told = {number: number for number in own}
    else:
        told = dict.fromkeys(own, -1)
    gone = [own[p] or f"c{p}" for p, t in told.items() if t not in other]
    if gone:
        raise _NoFitError(
            f"the truth has no channel {_listed(gone)}, only {_listed([n or f'c{k}' for k, n in other.items()])}; say which is which "
            "with --channels PREDICTED=TRUE"
        )
    several = len(other) > 1
    return [(other[t] or own[p] or (f"c{t}" if several else ""), p, t) for p, t in told.items()]


def _names(volume: Volume) -> dict[int, str]:
    """The channels that exist, by number."""
    first, there = volume.box.start[1], np.asarray(present(volume).any((0, 2)))
    names = volume.meta.channel_names or ("",) * volume.box.shape[1]
    return {first + k: names[k] for k in range(volume.box.shape[1]) if there[k]}


def _channel(channels: Mapping[int, str], wanted: str, what: str) -> int:
    by_name = {name: number for number, name in channels.items() if name}
    number = by_name.get(wanted, int(wanted) if wanted.isdigit() else -1)
    if number not in channels:
        raise _NoFitError(
            f"the {what} has no channel {wanted}, only {_listed([n or str(k) for k, n in channels.items()])}"
        )
    return number


def _planes(layers: tuple[Layer, Layer], depth: int) -> tuple[int, ...]:
    """Slices that exist on both sides."""
    there = [exists(layer) for layer in layers]
    return tuple(z for z in range(depth) if all(z < len(e) and e[z] for e in there))


def _beside(volume: Volume | None, true: Layer, channel: int, *, nearest: bool = False) -> Layer | None:
    """A further image at the place of the truth; of one slice or time, that one. With ``nearest`` masks of missing slices are those
    of the nearest."""
    if volume is None:
        return None
    box = volume.box
    time = true.time if box.start[0] <= true.time < box.stop[0] else box.start[0]
    start = true.start[0] if box.start[2] <= true.start[0] < box.stop[2] else box.start[2]
    layer = Layer(volume, time, box.start[1] + channel, (start, *_corner(volume)[1:]))
    return Nearest.of(layer) if nearest else layer


def _picture(shown: Volume | None, true: Layer, compared: set[int]) -> Layer | None:
    """What to show as the input: the first channel of ``shown``, or of the truth's own those that are not compared."""
    if shown is not None:
        return _beside(shown, true, 0)
    others = [n for n in _names(true.volume) if n not in compared]
    return _beside(true.volume, true, others[0] - true.volume.box.start[1]) if others else None


def _check_stacks(items: Sequence[Subject], orientation: Orientation) -> None:
    thin = [item for item in items if not item.is_stack]
    if orientation != "xy" and thin:
        item = thin[0]
        raise UserError(
            f"--orientations {orientation} needs stacks of slices that exist in both; {item.name or item.true.volume.path} has "
            f"{len(item.planes)} of {item.shape[0]}; leave {orientation} out, or those positions"
        )


def _corner(volume: Volume) -> tuple[int, int, int]:
    z, y, x = volume.box.start[2:]
    return z, y, x


def _size(volume: Volume) -> str:
    return " x ".join(map(str, volume.box.shape[3:]))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")
