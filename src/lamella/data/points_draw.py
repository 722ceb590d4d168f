"""Draw points from labelled images: which voxels, of which class, by chance and without replacement.

Labels are walked through twice, block by block. The first walk counts the voxels of every *pot*, the voxels that are exchangeable: of
a class, or of a class in an image, or in an object. Numbers are drawn from each pot, every voxel as likely as another; the second
walk finds the voxels of these numbers. So memory is that of a block, and the points are the same however blocks are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import refuse_existing, write_json
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.core.rng import stream
from lamella.data.held_out import refuse_held_out
from lamella.data.labelled_image import read_labels
from lamella.data.labelled_source import LabelledSource, Opened, open_pair, pairs_of
from lamella.data.labelled_survey import survey_blocks, without
from lamella.data.points_settings import PointImages, PointSettings
from lamella.data.points_table import PointTable, write_points
from lamella.ops.classes import NONE, ClassesConfig

Pot = tuple[int, int, int]  # image, class, object; -1 where points of all of them are exchangeable


@dataclass(frozen=True)
class Piece:
    """A block of one image's labels, in voxels from the first annotated section."""

    number: int
    image: Opened
    block: Box


def prepare_points(
    source: str, out: str | Path, images: PointImages, settings: PointSettings, *, overwrite: bool = False
) -> PointTable:
    """Draw points from the labelled images at ``source`` and write them to ``out``, with what was asked for in ``NAME.json``.

    Raises UserError for images of validation or test, for labels of one class only, and for more points than there are voxels.
    """
    out = Path(out)
    if out.suffix.lower() != ".csv":
        raise UserError(f"points are written as CSV; end {out} in .csv")
    refuse_existing(out, overwrite=overwrite)
    opened = open_images(source, images, settings)
    refuse_held_out(opened, source, settings.never, folders=not settings.allow_held_out)
    table = draw_points(opened, settings)
    names = settings.config().names
    record = {
        "source": source,
        "images": images.to_dict(),
        "settings": settings.to_dict(),
        "classes": {k: {"name": name, "points": int((table.classes == k).sum())} for k, name in enumerate(names)},
    }
    write_json(out.with_suffix(".json"), provenance(**record))
    write_points(out, table)
    return table


def open_images(source: str, images: PointImages, settings: PointSettings) -> list[Opened]:
    """The labelled images of a source, checked as far as headers tell."""
    chosen = LabelledSource.load({"path": source, **images.to_dict()}, "lamella prep points")
    pairs, _ = pairs_of(chosen, skip_bad=False)
    found: list[Opened] = []
    with progress("opening images", len(pairs), "images") as meter:
        for pair in pairs:
            found += open_pair(pair, chosen, settings.ndim, 1, images.ignore)
            meter.advance()
    return found


def draw_points(images: Sequence[Opened], settings: PointSettings) -> PointTable:
    """Points of ``images`` in whole voxels, the first of each class first, then the second of each."""
    classes = settings.config()
    pieces = [Piece(k, image, block) for k, image in enumerate(images) for block in _blocks(image, settings.ndim)]
    counts: dict[Pot, dict[int, int]] = {}  # voxels of each pot in each piece
    with progress("counting classes", len(pieces), "blocks") as meter:
        for index, piece in enumerate(pieces):
            for pot, voxels in _pots(piece, settings, classes):
                counts.setdefault(pot, {})[index] = len(voxels)
            meter.advance()
    totals = {pot: sum(each.values()) for pot, each in sorted(counts.items())}
    _need_two(totals, images, classes.names)
    wanted = _wanted(totals, settings, classes.names)
    picks = _picked(wanted, totals, counts, stream(settings.seed, "points"))
    return _found(images, pieces, picks, settings, classes)


def _blocks(image: Opened, ndim: int) -> list[Box]:
    shape = (len(image.planes), *image.shape[1:])
    if image.components:  # regions are numbered within what is read
        return [Box.of(shape)] if ndim == 3 else [Box((z, 0, 0), (z + 1, *shape[1:])) for z in range(shape[0])]
    return survey_blocks(shape, by_plane=ndim == 2)


def _pots(piece: Piece, settings: PointSettings, classes: ClassesConfig) -> Iterator[tuple[Pot, NDArray[np.intp]]]:
    """The voxels (flat, within the block) of each pot that a piece has."""
    labels, found = _classified(piece, settings, classes)
    of_image = piece.number if settings.per_image is not None or settings.per_object is not None else -1
    for k in np.unique(found[found != NONE]).tolist():
        here = np.flatnonzero(found == k)
        if settings.per_object is None or k == 0:
            yield (of_image, k, -1), here
            continue
        here = here[labels.ravel()[here] > 0]  # of a boundary the half that lies in an object
        own = labels.ravel()[here]
        order = np.argsort(own, kind="stable")
        ids, first = np.unique(own[order], return_index=True)
        for number, voxels in zip(ids.tolist(), np.split(here[order], first[1:]), strict=True):
            yield (of_image, k, number), voxels


def _classified(
    piece: Piece, settings: PointSettings, classes: ClassesConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and classes of a block, (z, y, x), told from as much around it as a boundary is wide."""
    image, block = piece.image, piece.block
    reach = (settings.thickness if settings.ndim == 3 else 0, settings.thickness, settings.thickness)
    seen = block.grow(reach).intersect(Box.of((len(image.planes), *image.shape[1:])))
    raw = read_labels(image, seen)
    known = ~np.isin(raw, image.ignore)
    labels = without(raw, image.ignore).astype(np.int64)
    flat = settings.ndim == 2
    found = classes(labels[0], known[0])[None] if flat else classes(labels, known)
    inside = block.slices(seen.start)
    return np.ascontiguousarray(labels[inside]), np.ascontiguousarray(found[inside])


def _need_two(totals: Mapping[Pot, int], images: Sequence[Opened], names: Sequence[str]) -> None:
    there = sorted({k for _, k, _ in totals})
    if len(there) < 2:
        what = f"class {there[0]} ({names[there[0]]}) alone" if there else "none of the classes"
        raise UserError(
            f"the labels of the {len(images)} images hold {what}; points of two classes are needed. Check the labels, --classes "
            "and --ignore"
        )


def _wanted(totals: Mapping[Pot, int], settings: PointSettings, names: Sequence[str]) -> dict[Pot, int]:
    """How many points each pot gives."""
    classes = sorted({k for _, k, _ in totals})
    if settings.per_object is not None:
        return _by_object(totals, settings.per_object, settings.balanced)
    wanted: dict[Pot, int] = {}
    for image in sorted({pot[0] for pot in totals}):
        number = settings.number if settings.per_image is None else settings.per_image
        pots = {k: totals.get((image, k, -1), 0) for k in classes}
        shares = _even(number, classes) if settings.balanced else _proportional(number, pots)
        for k, share in shares.items():
            if share > pots[k] and settings.per_image is None:
                raise UserError(
                    f"{share} points of class {k} ({names[k]}) are wanted, and the images have {pots[k]} such voxels; draw fewer"
                )
            wanted[image, k, -1] = min(share, pots[k])
    return wanted


def _by_object(totals: Mapping[Pot, int], each: int, balanced: bool) -> dict[Pot, int]:
    """``each`` points of every class in every object, or all voxels where an object has fewer, and background: if balanced as
    many as of the classes of objects in this image, otherwise ``each``."""
    wanted = {pot: min(each, total) for pot, total in totals.items() if pot[2] >= 0}
    for pot, total in totals.items():
        if pot[2] < 0:
            of_class: dict[int, int] = {}
            for (image, k, _), number in wanted.items():
                if image == pot[0]:
                    of_class[k] = of_class.get(k, 0) + number
            wanted[pot] = min(max(of_class.values(), default=each) if balanced else each, total)
    return wanted


def _even(number: int, classes: Sequence[int]) -> dict[int, int]:
    share, rest = divmod(number, len(classes))
    return {k: share + (place < rest) for place, k in enumerate(classes)}


def _proportional(number: int, pots: Mapping[int, int]) -> dict[int, int]:
    """Shares in proportion to what there is, whole numbers that add up to ``number``."""
    total = sum(pots.values())
    exact = {k: number * n / total for k, n in pots.items()}
    shares = {k: int(v) for k, v in exact.items()}
    for k in sorted(exact, key=lambda k: shares[k] - exact[k])[: number - sum(shares.values())]:
        shares[k] += 1
    return shares


def _picked(
    wanted: Mapping[Pot, int],
    totals: Mapping[Pot, int],
    counts: Mapping[Pot, Mapping[int, int]],
    rng: np.random.Generator,
) -> dict[int, dict[Pot, list[tuple[int, int]]]]:
    """By piece and pot: the order in which a point was drawn, and which voxel of the pot in that piece it is."""
    picks: dict[int, dict[Pot, list[tuple[int, int]]]] = {}
    for pot in sorted(wanted):
        if not wanted[pot]:
            continue
        drawn = rng.choice(totals[pot], wanted[pot], replace=False)
        pieces = list(counts[pot])
        ends = np.cumsum([counts[pot][piece] for piece in pieces])
        at = np.searchsorted(ends, drawn, side="right")
        for order, (number, place) in enumerate(zip(drawn.tolist(), at.tolist(), strict=True)):
            within = number - (int(ends[place - 1]) if place else 0)
            picks.setdefault(pieces[place], {}).setdefault(pot, []).append((order, within))
    return picks


def _found(
    images: Sequence[Opened],
    pieces: Sequence[Piece],
    picks: Mapping[int, Mapping[Pot, Sequence[tuple[int, int]]]],
    settings: PointSettings,
    classes: ClassesConfig,
) -> PointTable:
    """The voxels that were picked, in voxels of the whole image."""
    rows: list[tuple[int, Pot, NDArray[np.int64]]] = []
    with progress("finding points", len(picks), "blocks") as meter:
        for index, of_piece in sorted(picks.items()):
            piece = pieces[index]
            voxels = dict(_pots(piece, settings, classes))
            start = np.array(piece.block.start) + piece.image.image.box.start + (piece.image.planes[0], 0, 0)
            for pot, chosen in of_piece.items():
                places = np.stack(np.unravel_index(voxels[pot][[v for _, v in chosen]], piece.block.shape), 1)
                rows += [
                    (order, (piece.number, *pot[1:]), start + p) for (order, _), p in zip(chosen, places, strict=True)
                ]
            meter.advance()
    order = _order(rows, stream(settings.seed, "order"))
    names = tuple(images[rows[k][1][0]].name for k in order)
    where = np.array([rows[k][2] for k in order], np.float64)
    has_z = settings.ndim == 3 or any("z" in image.image.volume.meta.axes for image in images)
    return PointTable(names, where, np.array([rows[k][1][1] for k in order], np.int64), has_z)


def _order(rows: Sequence[tuple[int, Pot, NDArray[np.int64]]], rng: np.random.Generator) -> list[int]:
    """Classes in turn, so that the first n points are balanced too; points of a class in an order of chance."""
    rows_of: dict[int, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda k: (rows[k][1], rows[k][0])):
        rows_of.setdefault(rows[index][1][1], []).append(index)
    ranked = [(rank, k, index) for k, own in sorted(rows_of.items()) for rank, index in enumerate(rng.permutation(own))]
    return [int(index) for _, _, index in sorted(ranked)]
