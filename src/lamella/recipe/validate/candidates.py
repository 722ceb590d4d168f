"""What is validated: checkpoints of a head run, or stored affinities; each gives maps of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.image_source import Part, length_of
from lamella.data.inputs import find_images
from lamella.data.labelled_image import LabelledImage
from lamella.io.layouts import image_files
from lamella.recipe.find import split_checkpoint
from lamella.recipe.head import load_head
from lamella.runs import RunFolder

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.head.predictor import HeadPredictor

_DIMENSIONS: dict[int, Literal[2, 3]] = {2: 2, 3: 3}


@runtime_checkable
class Candidate(Protocol):
    """Something that gives maps, under a name."""

    @property
    def name(self) -> str: ...

    @property
    def target(self) -> str:
        """``affinities`` or ``classes``."""
        ...

    @property
    def ndim(self) -> Literal[2, 3]: ...

    @property
    def slices(self) -> int: ...

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...] | None:
        """Of each affinity; None if the maps do not say."""
        ...

    @property
    def channel_names(self) -> tuple[str, ...]: ...

    def identity(self) -> dict[str, Any]: ...

    def check(self, image: LabelledImage) -> None:
        """Refuse an image that there can be no maps of."""
        ...

    def maps(self, image: LabelledImage) -> NDArray[np.float32]:
        """Maps (n, z, y, x) of the whole image."""
        ...


@dataclass(frozen=True)
class Head:
    """A checkpoint of a head run."""

    name: str
    predictor: HeadPredictor

    @property
    def target(self) -> str:
        return self.predictor.name

    @property
    def ndim(self) -> Literal[2, 3]:
        return _DIMENSIONS[self.predictor.net.ndim]

    @property
    def slices(self) -> int:
        return self.predictor.slices

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...] | None:
        return self.predictor.offsets or None

    @property
    def channel_names(self) -> tuple[str, ...]:
        return self.predictor.channel_names

    def identity(self) -> dict[str, Any]:
        return self.predictor.identity()

    def check(self, image: LabelledImage) -> None:
        self.predictor.check(image.opened.image)

    def maps(self, image: LabelledImage) -> NDArray[np.float32]:
        (found,) = self.predictor.maps(image.opened.image).values()
        return found if found.ndim == 4 else found[:, None]


@dataclass(frozen=True)
class Stored:
    """Volumes of affinities (c, z, y, x), one for each image, by the images' names; whole numbers are shares of their largest."""

    name: str
    parts: Mapping[str, Part]
    ndim: Literal[2, 3]
    offsets: tuple[tuple[int, ...], ...] | None = None
    target = "affinities"
    slices = 1

    @property
    def channel_names(self) -> tuple[str, ...]:
        part = next(iter(self.parts.values()))
        return part.volume.meta.channel_names or tuple(str(n) for n in range(part.num_channels))

    def identity(self) -> dict[str, Any]:
        return {"affinities": [part.volume.path for part in self.parts.values()]}

    def check(self, image: LabelledImage) -> None:
        part, wanted = self._part(image), image.opened.image
        if part.box.shape != wanted.box.shape:
            ours, theirs = (" x ".join(map(str, p.box.shape)) for p in (part, wanted))
            raise UserError(
                f"affinities {part.volume.path} are {ours} (z y x), the image {wanted.volume.path} is {theirs}; both must have one size"
            )

    def maps(self, image: LabelledImage) -> NDArray[np.float32]:
        part = self._part(image)
        found = part.read(Box.of(part.box.shape))
        return found.astype(np.float32) / np.float32(np.iinfo(found.dtype).max if found.dtype.kind == "u" else 1)

    def of(self, images: Sequence[LabelledImage]) -> Stored:
        """For these images: a single volume is that of a single image, whatever their names."""
        if len(images) == len(self.parts) == 1:
            return replace(self, parts={images[0].name: next(iter(self.parts.values()))})
        return self

    def _part(self, image: LabelledImage) -> Part:
        if image.name not in self.parts:
            there = ", ".join(list(self.parts)[:5])
            raise UserError(f"there are no affinities of image {image.name}, but of {there}; names must be equal")
        part, wanted = self.parts[image.name], image.opened.image
        whole = tuple(length_of(wanted.volume, axis) for axis in "zyx")
        return replace(part, box=wanted.box) if part.box.shape == whole else part


class _AnyChannels:
    """Takes volumes of affinities: float, c before the axes of space."""

    channels = None

    def check(self, part: Part) -> None:
        meta = part.volume.meta
        if "c" not in meta.axes or part.volume.dtype.kind not in "fu":
            raise UserError(
                f"{part.volume.path} has axes {' '.join(meta.axes)} and holds {part.volume.dtype}; affinities are numbers from 0 to 1 "
                "with axes c z y x or c y x"
            )


def heads(
    run: str, checkpoints: Sequence[str], settings: InferSettings | None = None, *, device: str, runs: Path | str
) -> list[Head]:
    """The ``checkpoints`` (names, or ``all``) of a head run; of none, that of ``RUN:CHECKPOINT``, or the best."""
    name, own = split_checkpoint(run)
    folder = RunFolder.open(name, runs)
    if checkpoints and own is not None:
        raise UserError(f"{run} names a checkpoint, and so does --checkpoints; leave one of them out")
    wanted = folder.checkpoints() if list(checkpoints) == ["all"] else list(checkpoints)
    found = []
    for place in [f"{folder.path}:{checkpoint}" for checkpoint in wanted] or [run]:
        predictor, facts = load_head(place, settings, device=device, runs=runs)
        found.append(Head(str(facts["checkpoint"]), predictor))
    return found


def stored(path: str, offsets: Sequence[Sequence[int]] | None = None) -> Stored:
    """The affinities at ``path``: a volume, or a folder of them. Without offsets, two are of planes and three of volumes."""
    folder = image_files(Path(path)) if Path(path).is_dir() else []
    items = find_images([str(file) for file in folder] or [path], _AnyChannels()).items
    counts = {item.parts[0].num_channels for item in items}
    if len(counts) > 1:
        raise UserError(f"the affinities of {path} have {sorted(counts)} channels; all must have as many")
    count = counts.pop()
    ndim = len(offsets[0]) if offsets else count
    if ndim not in _DIMENSIONS:
        raise UserError(
            f"{path} has {count} affinities, and only for 2 (y x) and 3 (z y x) their offsets are known; add offsets=[[-1, 0], ...]"
        )
    parts = {f"{i.name}_t{t}" if len(i.parts) > 1 else i.name: part for i in items for t, part in enumerate(i.parts)}
    return Stored(Path(path).name, parts, _DIMENSIONS[ndim], tuple(tuple(o) for o in offsets) if offsets else None)
