"""Tiles on disk, for those who want them: an HDF5 archive with a data set for each channel, and the list of their places.

The rule (``lamella.ops.tiles.TileRule``) is the one by which tiles are drawn while training; ``places`` applies it to an experiment.
A place is used if all channels have the slices it needs there and enough of it is foreground. Tiles hold what the view shows:
corrected, resized, normalised float32.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, cover, run
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_text
from lamella.core.progress import progress
from lamella.core.volume import Meta, Volume
from lamella.io import create_archive, open_volume
from lamella.io.frames import present
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing
from lamella.ops.tiles import TileRule
from lamella.prep.archive import origin
from lamella.prep.experiment import Experiment
from lamella.prep.frame_settings import Selection, TileSettings
from lamella.prep.stage import Begun, begin

ARCHIVE, LIST = "tiles.h5", "tiles.csv"


@dataclass(frozen=True)
class Tile:
    """A tile's position, time, box (z, y, x) on the view's grid, and share of foreground (1 without masks)."""

    position: str
    time: int
    box: Box
    fraction: float

    @property
    def name(self) -> str:
        """As tiles were named on disk: rows, columns and slices."""
        (z, y, x), (z1, y1, x1) = self.box.start, self.box.stop
        return f"r{y}-{y1}_c{x}-{x1}_sl{z}-{z1}"


def make_tiles(
    source: str,
    out: str | Path,
    settings: TileSettings | None = None,
    select: Selection | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> tuple[Tile, ...] | None:
    """Cut the tiles of ``source`` into ``out/tiles.h5`` and list them in ``out/tiles.csv``; None if that was done before.

    With ``settings.write`` false only the rule is kept, and the list. Raises UserError for even depths, depths beyond the slices
    there are, tiles larger than the images, and masks that leave no tile.
    """
    settings, select = settings or TileSettings(), select or Selection()
    with begin("tiles", source, out, settings, select, overwrite=overwrite) as begun:
        if begun is None:
            return None
        measures = begun.before
        experiment = Experiment.open(source, select, measures)
        channels = experiment.channels(settings.channels)
        rule = tile_rule(settings)
        depths = _depths(experiment, channels, settings)
        tiles = tuple(_all_places(experiment, measures, rule, depths))
        if settings.write:
            views = {p: measures.view(v.source) for p, v in experiment.views.items()}
            _write(tiles, experiment, views, depths, begun, executor or Executor())
        _write_list(begun.folder / LIST, tiles)
        begun.finish(rule.to_dict())
        return tiles


def tile_rule(settings: TileSettings) -> TileRule:
    """The rule that is kept, without what concerns writing."""
    depth = max([settings.depth, *settings.depths.values()])
    return TileRule(
        size=settings.size, step=settings.step, depth=depth, step_z=settings.step_z, centred=settings.centred,
        min_fraction=settings.min_fraction,
    )  # fmt: skip


def places(
    view: Volume, rule: TileRule, depths: Mapping[int, int], mask: Volume | None = None
) -> Iterator[tuple[int, Box, float]]:
    """Time, box (z, y, x) and share of foreground of the tiles of one position.

    ``view`` is a volume ``t c z y x``; ``depths`` gives the slices that each channel needs around (or from) the tile's. The mask counts
    at the slices where it exists. All channels have the same places.
    """
    there = present(view)
    masked = present(mask) if mask is not None else None
    for i, time in enumerate(range(view.box.start[0], view.box.stop[0])):
        for box in rule.places(Box(view.box.start[2:], view.box.stop[2:])):
            if not all(
                _has(there[i, c - view.box.start[1]], inner(box, d), view.box.start[2]) for c, d in depths.items()
            ):
                continue
            fraction = 1.0
            if mask is not None and masked is not None:
                found = _mask_slices(mask, masked[i, 0], time, box)
                if found is None or not rule.keeps(found):
                    continue
                fraction = float(found.mean())
            yield time, box, fraction


def inner(box: Box, depth: int) -> Box:
    """The ``depth`` slices in the middle of a tile."""
    margin = (box.shape[0] - depth) // 2
    return Box((box.start[0] + margin, *box.start[1:]), (box.start[0] + margin + depth, *box.stop[1:]))


def _has(there: NDArray[np.bool_], box: Box, first: int) -> bool:
    return bool(there[box.start[0] - first : box.stop[0] - first].all())


def _mask_slices(mask: Volume, there: NDArray[np.bool_], time: int, box: Box) -> NDArray[np.bool_] | None:
    slices = [z for z in range(box.start[0], box.stop[0]) if there[z - mask.box.start[2]]]
    c = mask.box.start[1]
    found = [
        mask.read(Box((time, c, z, *box.start[1:]), (time + 1, c + 1, z + 1, *box.stop[1:])))[0, 0, 0] for z in slices
    ]
    return np.stack(found) != 0 if found else None


def _depths(experiment: Experiment, channels: Sequence[int], settings: TileSettings) -> dict[int, int]:
    depths = dict.fromkeys(channels, settings.depth)
    for name, depth in settings.depths.items():
        (channel,) = experiment.channels([name])
        if settings.centred and depth % 2 == 0:
            raise UserError(
                f"depth {depth} of channel {name} is even, so no slice is in the middle; choose {depth - 1} or {depth + 1}"
            )
        depths[channel] = depth
    return depths


def _all_places(
    experiment: Experiment, measures: Preprocessing, rule: TileRule, depths: Mapping[int, int]
) -> Iterator[Tile]:
    if rule.min_fraction > 0 and measures.masks is None:
        raise UserError(
            f"min_fraction {rule.min_fraction} asks for foreground, and there are no masks; make them with 'lamella prep masks' first"
        )
    count = 0
    with progress("choosing tiles", len(experiment.names), "positions") as meter:
        for position in experiment.names:
            mask = measures.mask(position) if measures.masks is not None else None
            for time, box, fraction in places(experiment.views[position], rule, depths, mask):
                if experiment.select.times is None or time in experiment.select.times:
                    count += 1
                    yield Tile(position, time, box, fraction)
            meter.advance()
    if not count:
        raise UserError(
            f"no tile of {rule.size[0]} by {rule.size[1]} px is left: none has all channels at the slices it needs and at least "
            f"{rule.min_fraction:.0%} foreground; lower min_fraction or the depth, or make other masks"
        )


@dataclass(frozen=True)
class TileJob:
    """Block ``i`` is tile ``i``, of all channels."""

    tiles: tuple[Tile, ...]
    views: Mapping[str, Prepared]
    depths: Mapping[int, int]
    out: Mapping[int, Volume]

    def identity(self) -> dict[str, Any]:
        return {"tiles": [f"{t.position} {t.time} {t.box}" for t in self.tiles], "depths": dict(self.depths)}

    def read(self, block: Block) -> dict[int, NDArray[np.float32]]:
        tile = self.tiles[block.index]
        found = {}
        for c, depth in self.depths.items():
            box = inner(tile.box, depth)
            found[c] = self.views[tile.position].read(
                Box((tile.time, c, *box.start), (tile.time + 1, c + 1, *box.stop))
            )[0]
        return found

    def compute(self, block: Block, data: dict[int, NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
        return data

    def write(self, block: Block, result: dict[int, NDArray[np.float32]]) -> None:
        for c, array in result.items():
            volume = self.out[c]
            volume.write(Box((block.index, 0, 0, 0), (block.index + 1, *volume.box.shape[1:])), array)


def _write(
    tiles: tuple[Tile, ...],
    experiment: Experiment,
    views: Mapping[str, Prepared],
    depths: Mapping[int, int],
    begun: Begun,
    executor: Executor,
) -> None:
    size = tiles[0].box.shape[1:]
    meta = views[tiles[0].position].meta
    told = origin(source=experiment.source, preprocessing=begun.before.to_dict(), list=LIST)
    plain = Meta(tuple("nzyx"), (1.0, *meta.voxel_size[2:]), ("", *meta.units[2:]), provenance=told)
    names = {c: experiment.channel_name(c) for c in depths}
    arrays = {names[c]: (Box.of((len(tiles), d, *size)), "float32", plain) for c, d in depths.items()}
    path = begun.folder / ARCHIVE
    made = begun.part.folder / "laid-out"
    if made.exists():
        volumes = {n: open_volume(str(path), dataset=n, writable=True) for n in arrays}
    else:
        path.unlink(missing_ok=True)
        volumes = create_archive(path, arrays)
        made.touch()
    job = TileJob(tiles, views, depths, {c: volumes[n] for c, n in names.items()})
    run(job, cover(Box.of((len(tiles),)), 1), label="tiles", ledger=begun.part.ledger("tiles"), executor=executor)


def _write_list(path: Path, tiles: Sequence[Tile]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("sample", "position", "time_idx", "tile", "z", "y", "x", "fg_frac"))
    for i, tile in enumerate(tiles):
        writer.writerow((i, tile.position, tile.time, tile.name, *tile.box.start, f"{tile.fraction:.6f}"))
    write_text(path, buffer.getvalue())
