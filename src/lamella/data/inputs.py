"""Which images a trained net is applied to: files, volumes, and folders of either; each opened and checked before anything is
computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.volume import Volume
from lamella.data.image_source import Part
from lamella.data.load import problem_with
from lamella.io import open_volume
from lamella.io.folders import RECORD
from lamella.io.layouts import stem
from lamella.io.open import contents_of
from lamella.io.pairs import look
from lamella.io.place import Place

T = TypeVar("T")


@runtime_checkable
class ImageUser(Protocol):
    """What images are found for: a trained net, with the channels that it was trained on (None: all)."""

    @property
    def channels(self) -> tuple[int, ...] | None: ...

    def check(self, part: Part) -> None:
        """Refuse an image that the net cannot take."""
        ...


@dataclass(frozen=True)
class Item:
    """One image: what its outputs are called, where it was found, and its time points (one if it has no t)."""

    name: str
    path: str
    parts: tuple[Part, ...]

    @property
    def volume(self) -> Volume:
        return self.parts[0].volume

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels z y x of a time point."""
        return self.parts[0].box.shape


@dataclass(frozen=True)
class Images:
    """The images that can be predicted, and one line for each that was left out."""

    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()


def find_images(
    paths: Sequence[str],
    user: ImageUser,
    *,
    channels: tuple[int, ...] | None = None,
    dataset: str | None = None,
    mip: int = 0,
    skip_bad: bool = False,
) -> Images:
    """Open the images at ``paths``: a folder of images is one image per file, ``"folder/*.tif"`` and stores are volumes.

    Raises UserError, naming the file, for what cannot be opened or does not suit the net; with ``skip_bad`` only if nothing is left.
    """
    files = [file for path in paths for file in named_files(path)]
    names = _names([name for name, _ in files])
    items, left_out = [], []
    with progress("opening images", len(files), "images") as meter:
        for (_, file), name in zip(files, names, strict=True):
            open_it = partial(_open, file, name, user, channels, dataset, mip)
            found = attempt(open_it, file, skip_bad, alone=len(files) == 1)
            if isinstance(found, str):
                left_out.append(found)
            else:
                items.append(found)
            meter.advance()
    if not items:
        raise UserError(f"none of the images can be used; the first problem: {left_out[0]}")
    return Images(tuple(items), tuple(left_out))


def attempt(work: Callable[[], T], path: str, skip_bad: bool, *, alone: bool = False) -> T | str:
    """What ``work`` gives; if the image at ``path`` makes it fail, a UserError that names it, or its text with ``skip_bad``.

    ``alone``: there is no other image to go on with.
    """
    try:
        return work()
    except Exception as error:  # libraries of file formats raise many kinds for a damaged file
        problem = problem_with(path, error)
    if not skip_bad:
        hint = "" if alone else " (to go on without such images, add --skip-bad)"
        raise UserError(f"{problem}{hint}") from None
    return problem


def named_files(path: str) -> list[tuple[str, str]]:
    """Names and paths of the images at ``path``."""
    place = Place.parse(path)
    folder = place.local
    if folder is None or not folder.is_dir() or _is_store(place):
        return [(stem(Path(place.name.replace("*", "sections"))) if "*" in place.name else stem(place.name), path)]
    found = dict.fromkeys(pair.image for pair in look(path).pairs)
    return [(stem(image), image) for image in found]


def _is_store(place: Place) -> bool:
    """Whether a folder is a volume by itself, and not a folder of images."""
    assert place.local is not None
    if (place.local / RECORD).exists() or place.prefix:
        return True
    try:
        contents = contents_of(place)
    except UserError:  # images of several kinds
        return False
    return contents is not None and not contents.label.startswith("folder of")


def _names(stems: Sequence[str]) -> list[str]:
    """A different name for every image: those that are equal get a number."""
    counts, seen, names = Counter(stems), Counter[str](), []
    for name in stems:
        seen[name] += 1
        names.append(name if counts[name] == 1 else f"{name}_{seen[name]}")
    if len(set(names)) < len(names):
        twice = next(n for n, c in Counter(names).items() if c > 1)
        raise UserError(f"two images would both be written as {twice}; predict them one after the other")
    return names


def _open(
    file: str, name: str, user: ImageUser, channels: tuple[int, ...] | None, dataset: str | None, mip: int
) -> Item:
    volume = open_volume(file, dataset=dataset, mip=mip)
    axes = volume.meta.axes
    if axes[-2:] != ("y", "x") or "n" in axes:
        raise UserError(f"{file} has axes {''.join(axes)}; images need y x, with c, z and t before them")
    length = dict(zip(axes, volume.box.shape, strict=True))
    box = Box.of(tuple(length.get(a, 1) for a in "zyx"))
    chosen = _channels(file, length.get("c", 1), user, channels)
    times = range(length["t"]) if "t" in axes else (None,)
    parts = tuple(Part(volume, box, t, chosen) for t in times)
    user.check(parts[0])
    return Item(name, file, parts)


def _channels(file: str, count: int, user: ImageUser, wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Which channels of an image the net sees: those asked for, those of training, or all."""
    if wanted is not None and not all(0 <= c < count for c in wanted):
        raise UserError(f"{file} has {count} channels, --channels asks for {list(wanted)}; count from 0")
    own = user.channels
    if wanted is None and own is not None and count > len(own) and max(own) < count:
        return own
    return wanted
