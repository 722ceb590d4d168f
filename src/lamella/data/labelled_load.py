"""Open all images of a data set and look at all labels once, keeping what fits in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import Meter, progress
from lamella.data.labelled_image import LabelledImage, read_labels
from lamella.data.labelled_source import LabelledSource, Opened, open_pair, pairs_of
from lamella.data.labelled_survey import Survey, survey, survey_blocks
from lamella.data.load import Bad, Key, Memory, image_bytes, image_key, measured, of_usual_channels
from lamella.ops.trim import check_fits

if TYPE_CHECKING:
    from lamella.data.labelled import LabelledData


@dataclass(frozen=True)
class Loaded:
    """Images ready to be cropped, and one line for each file that was left out."""

    images: tuple[LabelledImage, ...]
    skipped: tuple[str, ...] = ()


def load(config: LabelledData) -> Loaded:
    """The images of ``config``; raises UserError for what cannot be used, unless ``skip_bad``."""
    bad = Bad(config.skip_bad)
    opened = of_usual_channels([_open(source, config, bad) for source in config.sources], lambda i: i.image, bad)
    memory = Memory(_wanted(image for images in opened for image in images), config.cache_gb)
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


def _open(source: LabelledSource, config: LabelledData, bad: Bad) -> list[Opened]:
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


def label_key(image: Opened) -> Key:
    part = image.labels
    return ("labels", part.volume.path, part.volume.box, part.time, part.box, image.components)


def _label_bytes(image: Opened) -> int:
    return image.labels.box.size * (4 if image.components else image.labels.volume.dtype.itemsize)


def _wanted(images: Iterable[Opened]) -> Iterator[tuple[Key, int]]:
    """What is to be kept in memory, and its size."""
    for image in images:
        yield image_key(image.image), image_bytes(image.image)
        yield label_key(image), _label_bytes(image)


def _blocks(opened: Opened, ndim: int) -> list[Box]:
    return survey_blocks((len(opened.planes), *opened.shape[1:]), by_plane=ndim == 2)


def _counted(blocks: Iterable[Box], meter: Meter) -> Iterator[Box]:
    for block in blocks:
        yield block
        meter.advance()


def _look(opened: Opened, blocks: Iterable[Box], config: LabelledData, memory: Memory) -> tuple[LabelledImage, Survey]:
    """Measure the image, survey the labels, keep both where there is room."""
    if config.trim is not None:
        check_fits(config.trim, opened.shape[-config.ndim :])
    label_box = Box.of((len(opened.planes), *opened.shape[1:]))
    labels = memory.keep(label_key(opened), lambda: read_labels(opened, label_box))
    array = None if labels is None else labels.array
    read = (lambda box: read_labels(opened, box)) if array is None else (lambda box: array[box.slices()])
    seen = survey(read, blocks, opened.ignore)
    image, scaling = measured(opened.image, config.normaliser, memory)
    return LabelledImage(opened, scaling, seen.places, image, labels), seen


Looked = tuple[Opened, LabelledImage, Survey]


def _checked(source: LabelledSource, looked: list[Looked], bad: Bad) -> list[Looked]:
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
