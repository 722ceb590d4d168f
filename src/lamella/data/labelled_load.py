"""Open all images of a data set and look at all labels once, keeping what fits in memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import Meter, progress
from lamella.data.labelled_image import Kept, LabelledImage, read_labels
from lamella.data.labelled_source import LabelledSource, Opened, Part, open_pair, pairs_of
from lamella.data.labelled_survey import Survey, survey, survey_blocks
from lamella.data.shared import SharedBytes
from lamella.io.statistics import LIMIT, sample_voxels
from lamella.ops.intensity import Scaling
from lamella.ops.trim import check_fits

if TYPE_CHECKING:
    from lamella.data.labelled import LabelledData

T = TypeVar("T")

_ALIGN = 64  # bytes; arrays of any type may begin there


@dataclass(frozen=True)
class Loaded:
    """Images ready to be cropped, and one line for each file that was left out."""

    images: tuple[LabelledImage, ...]
    skipped: tuple[str, ...] = ()


@dataclass
class _Bad:
    """Raises what is wrong with a file, or notes it where the rest shall go on."""

    skip: bool
    lines: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], T], path: str) -> T | None:
        try:
            return work()
        except UserError as error:
            problem = str(error) if path in str(error) else f"{path}: {error}"
        except Exception as error:  # libraries of file formats raise many kinds for a damaged file
            problem = f"cannot read {path}: {type(error).__name__}: {error}; it may be damaged"
        if not self.skip:
            raise UserError(f"{problem} (to go on without such files, set data.skip_bad=true)") from None
        self.lines.append(problem)
        return None


def load(config: LabelledData) -> Loaded:
    """The images of ``config``; raises UserError for what cannot be used, unless ``skip_bad``."""
    bad = _Bad(config.skip_bad)
    opened = _of_usual_channels([_open(source, config, bad) for source in config.sources], bad)
    memory = _Memory([image for images in opened for image in images], config.cache_gb)
    found: list[LabelledImage] = []
    blocks = {id(image): _blocks(image, config.ndim) for images in opened for image in images}
    with progress("reading labels", sum(map(len, blocks.values())), "blocks") as meter:
        for source, images in zip(config.sources, opened, strict=True):
            looked = []
            for image in images:
                mine = blocks[id(image)]
                result = bad.attempt(
                    lambda image=image, mine=mine: _look(image, _counted(mine, meter), config, memory),  # type: ignore[misc]
                    image.labels.volume.path,
                )
                looked += [] if result is None else [(image, *result)]
            found += [loaded for _, loaded, _ in _checked(source, looked, bad)]
    for line in bad.lines:
        print(f"left out: {line}", file=sys.stderr)
    if not found:
        raise UserError(f"none of the images can be used; the first problem: {bad.lines[0]}")
    return Loaded(tuple(found), tuple(bad.lines))


def _open(source: LabelledSource, config: LabelledData, bad: _Bad) -> list[Opened]:
    pairs, problems = pairs_of(source, skip_bad=config.skip_bad)
    bad.lines += problems
    found: list[Opened] = []
    with progress("opening images", len(pairs), "images") as meter:
        for pair in pairs:
            opened = bad.attempt(
                lambda pair=pair: open_pair(pair, source, config.ndim, config.slices, config.ignore),  # type: ignore[misc]
                pair.image,
            )
            found += opened or []
            meter.advance()
    return found


def _of_usual_channels(opened: Sequence[list[Opened]], bad: _Bad) -> list[list[Opened]]:
    """The images that have as many channels as most."""
    numbers = Counter(image.image.num_channels for images in opened for image in images)
    usual = max(numbers, key=lambda n: (numbers[n], -n), default=1)

    def check(image: Opened) -> bool:
        if image.image.num_channels != usual:
            raise UserError(
                f"{image.image.volume.path} has {image.image.num_channels} channels, most images have {usual}; name as many for "
                "each source with channels"
            )
        return True

    return [[i for i in images if bad.attempt(lambda i=i: check(i), i.image.volume.path)] for images in opened]  # type: ignore[misc]


class _Memory:
    """Room for arrays as long as there is any, in the order in which they come; one image of several labels is kept once."""

    def __init__(self, images: Sequence[Opened], gigabytes: float) -> None:
        limit, end = gigabytes * 1e9, 0
        self.places: dict[tuple[Any, ...], int] = {}
        for image in images:
            for key, size in ((image_key(image), _image_bytes(image)), (label_key(image), _label_bytes(image))):
                if key not in self.places and end + size <= limit:
                    self.places[key] = end
                    end += -(-size // _ALIGN) * _ALIGN
        self.memory = SharedBytes(max(end, 1))
        self.kept: dict[tuple[Any, ...], Kept] = {}
        self.scalings: dict[tuple[Any, ...], Scaling] = {}

    def keep(self, key: tuple[Any, ...], read: Callable[[], NDArray[Any]]) -> Kept | None:
        """The array of ``key``, read now if it is new; None if there is no room for it."""
        if key not in self.places:
            return None
        if key not in self.kept:
            array = read()
            kept = Kept(self.memory, self.places[key], array.shape, array.dtype)
            assert kept.array is not None
            kept.array[...] = array
            self.kept[key] = kept
        return self.kept[key]


def image_key(image: Opened) -> tuple[Any, ...]:
    part = image.image
    return ("image", part.volume.path, part.volume.box, part.time, part.box, part.channels)


def label_key(image: Opened) -> tuple[Any, ...]:
    part = image.labels
    return ("labels", part.volume.path, part.volume.box, part.time, part.box, image.components)


def _image_bytes(image: Opened) -> int:
    return image.image.box.size * image.image.num_channels * image.image.volume.dtype.itemsize


def _label_bytes(image: Opened) -> int:
    return image.labels.box.size * (4 if image.components else image.labels.volume.dtype.itemsize)


def _blocks(opened: Opened, ndim: int) -> list[Box]:
    return survey_blocks((len(opened.planes), *opened.shape[1:]), by_plane=ndim == 2)


def _counted(blocks: Iterable[Box], meter: Meter) -> Iterator[Box]:
    for block in blocks:
        yield block
        meter.advance()


def _look(opened: Opened, blocks: Iterable[Box], config: LabelledData, memory: _Memory) -> tuple[LabelledImage, Survey]:
    """Measure the image, survey the labels, keep both where there is room."""
    if config.trim is not None:
        check_fits(config.trim, opened.shape[-config.ndim :])
    label_box = Box.of((len(opened.planes), *opened.shape[1:]))
    labels = memory.keep(label_key(opened), lambda: read_labels(opened, label_box))
    array = None if labels is None else labels.array
    read = (lambda box: read_labels(opened, box)) if array is None else (lambda box: array[box.slices()])
    seen = survey(read, blocks, opened.ignore)
    image, scaling = _measured(opened, config, memory)
    return LabelledImage(opened, scaling, seen.places, image, labels), seen


def _measured(opened: Opened, config: LabelledData, memory: _Memory) -> tuple[Kept | None, Scaling]:
    part, key = opened.image, image_key(opened)
    path = part.volume.path
    try:
        kept = memory.keep(key, lambda: part.read(Box.of(part.box.shape)))
        if key not in memory.scalings:
            memory.scalings[key] = config.normaliser.measure(_voxels(part, None if kept is None else kept.array))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # libraries of file formats raise many kinds for a damaged file
        raise UserError(f"cannot read {path}: {type(error).__name__}: {error}; it may be damaged") from None
    return kept, memory.scalings[key]


def _voxels(part: Part, kept: NDArray[Any] | None) -> NDArray[Any]:
    """The voxels to measure intensities on: those of the whole image, whatever part of it is taken."""
    if kept is not None and part.is_whole and part.box.size <= LIMIT:
        return kept
    voxels = sample_voxels(part.volume, part.whole)
    return voxels if part.channels is None else voxels[list(part.channels)]


Looked = tuple[Opened, LabelledImage, Survey]


def _checked(source: LabelledSource, looked: list[Looked], bad: _Bad) -> list[Looked]:
    """Those whose labels are instances, if any of the source has an object."""
    if looked and not any(len(seen.places) for _, _, seen in looked):
        ignored = f" that is not ignored ({list(looked[0][0].ignore)})" if looked[0][0].ignore else ""
        raise UserError(
            f"the labels of {source.path} hold no object{ignored}: all {len(looked)} are empty, {looked[0][0].labels.volume.path} "
            "for one; check that these are the right files"
        )
    all_masks = all(len(seen.values) <= 1 for _, _, seen in looked) and any(s.is_one_value for _, _, s in looked)
    good = []
    for image, loaded, seen in looked:
        is_mask = seen.is_mask or (all_masks and seen.is_one_value)
        path = image.labels.volume.path
        if not is_mask or bad.attempt(lambda path=path, seen=seen: _refuse_mask(path, seen), path):  # type: ignore[misc]
            good.append((image, loaded, seen))
    return good


def _refuse_mask(path: str, seen: Survey) -> bool:
    raise UserError(
        f"labels {path} hold the single value {seen.values[0]} in {seen.regions} separate regions: a mask, where each object needs "
        "its own value. To take each region for an object, add components: true to its source"
    )
