"""Stack archives: random stacks of consecutive sections, drawn from volumes and written one by one.

Sample ``i`` is drawn from the random stream (seed, i) alone: a place among all that fit into the volumes, each as likely as the other,
so large volumes give more samples than small ones. A stack that is blank or mostly missing is drawn again from the same stream.
So the samples do not depend on the order in which they were made, nor on which of them a killed run had made before.

The archive has axes ``n z y x`` and the volumes' dtype; no more than a few stacks are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, Report, Unfinished, cover, run
from lamella.blockwise.unfinished import folder_beside
from lamella.core.box import Box, parse_box
from lamella.core.errors import UserError
from lamella.core.files import refuse_existing, write_json
from lamella.core.rng import stream
from lamella.core.volume import Meta, Volume
from lamella.io import open_volume
from lamella.prep.archive import check_output, lay_out, origin
from lamella.prep.places import Place, places_path, read_places, split_z, write_places
from lamella.prep.settings import DEPTH, MIP, SIZE, StackSettings


@dataclass(frozen=True)
class Draw:
    """Makes sample ``i``: ``starts`` holds for each source the box of first voxels (z, y, x) a stack may have."""

    sources: tuple[Volume, ...]
    starts: tuple[Box, ...]
    settings: StackSettings

    def place(self, index: int) -> tuple[Place, NDArray[Any]]:
        """The place of sample ``index`` and its voxels (z, y, x)."""
        settings = self.settings
        rng = stream(settings.seed, "test stack" if settings.test else "stack", index)
        weights = np.array([prod(s.shape) for s in self.starts], np.float64)
        for _ in range(settings.max_draws):
            k = int(rng.choice(len(weights), p=weights / weights.sum()))
            z, y, x = (int(rng.integers(a, b)) for a, b in zip(self.starts[k].start, self.starts[k].stop, strict=True))
            depth, size, _ = settings.shape
            place = Place(x=x, y=y, z=z, size=size, depth=depth, mip=settings.mip or MIP, source=self.sources[k].path)
            voxels = self.sources[k].read(place.box)
            if _is_usable(voxels, settings.max_missing):
                return place, voxels
        raise UserError(
            f"sample {index}: {settings.max_draws} stacks drawn one after another were blank or more than "
            f"{settings.max_missing:.0%} missing; choose a --bbox with tissue, or raise --max-missing or --max-draws"
        )


@dataclass(frozen=True)
class Replay:
    """Makes sample ``i`` from the place listed for it; ``which`` holds the number of its source."""

    sources: tuple[Volume, ...]
    which: tuple[int, ...]
    listed: tuple[Place, ...]

    def place(self, index: int) -> tuple[Place, NDArray[Any]]:
        source = self.sources[self.which[index]]
        place = self.listed[index].model_copy(update={"source": source.path})
        return place, source.read(place.box)


@dataclass(frozen=True)
class StackJob:
    """Block ``i`` is sample ``i``; its place is noted in ``notes`` before its voxels are written."""

    draw: Draw | Replay
    out: Volume
    notes: Path

    def read(self, block: Block) -> tuple[Place, NDArray[Any]]:
        return self.draw.place(block.index)

    def compute(self, block: Block, data: tuple[Place, NDArray[Any]]) -> tuple[Place, NDArray[Any]]:
        return data

    def write(self, block: Block, result: tuple[Place, NDArray[Any]]) -> None:
        place, voxels = result
        write_json(_note(self.notes, block.index), place.to_dict())
        self.out.write(block.write, voxels[None])


def prepare_stacks(
    sources: Sequence[str],
    out: str | Path,
    settings: StackSettings,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Report:
    """Write an archive of stacks from ``sources`` and the list of their places beside it.

    Raises UserError, before anything is written, for a source that is no volume (z, y, x) of numbers, a mip or box that does not
    exist, ranges for training and testing that share sections, a volume too small for a stack, or an output that exists.
    A run that was killed goes on when it is repeated, and ends with the same bytes.
    """
    path = check_output(out)
    settings, draw, count = _plan_draw(sources, settings)
    first = draw.sources[0]
    box = Box.of((count, *settings.shape))
    if not folder_beside(path).exists():
        refuse_existing(path, overwrite=overwrite)
        refuse_existing(places_path(path), overwrite=overwrite)
    plan: dict[str, Any] = {"sources": [v.path for v in draw.sources], "settings": settings.to_dict()}
    if isinstance(draw, Replay):  # the file may have changed since
        plan["places"] = [p.to_dict() for p in draw.listed]
    begun = Unfinished.begin(path, plan, exists=path.exists(), overwrite=overwrite)
    made = origin(sources=plan["sources"], settings=plan["settings"], mip=settings.mip)
    meta = _stack_meta(draw.sources, settings.key, made)
    volume = lay_out(path, {settings.key: (box, first.dtype, meta)}, begun)[settings.key]
    job = StackJob(draw, volume, begun.folder / "places")
    blocks = cover(box, (1, *settings.shape))
    report = run(job, blocks, label=f"stacks of {first.path}", ledger=begun.ledger("stacks"), executor=executor)
    places = [Place.load(json.loads(_note(job.notes, i).read_text())) for i in range(count)]
    write_places(places_path(path), places, volume.meta.provenance)
    begun.finish()
    return report


def _plan_draw(sources: Sequence[str], settings: StackSettings) -> tuple[StackSettings, Draw | Replay, int]:
    """Settings with nothing left open, what makes the samples, and how many there are."""
    listed = read_places(settings.coords) if settings.coords else []
    settings = _resolve(settings, listed)
    volumes = tuple(_open(s, settings.mip or MIP) for s in sources)
    if len({v.dtype for v in volumes}) > 1:
        held = ", ".join(f"{v.path}: {v.dtype}" for v in volumes)
        raise UserError(
            f"sources hold different types ({held}); make one archive for each and join them with 'prep combine'"
        )
    if listed:
        return settings, _replay(volumes, listed, settings), len(listed)
    assert settings.count is not None
    return settings, Draw(volumes, tuple(_starts(v, settings) for v in volumes), settings), settings.count


def _resolve(settings: StackSettings, listed: Sequence[Place]) -> StackSettings:
    """Defaults filled in; what a list of places fixes must not be asked for differently."""
    if not listed:
        if settings.count is None:
            raise UserError("the number of stacks is missing; give --count N, or --coords FILE")
        return settings.model_copy(
            update={"depth": settings.depth or DEPTH, "size": settings.size or SIZE, "mip": settings.mip or MIP}
        )
    first = listed[0]
    fixed = {"count": len(listed), "depth": first.depth, "size": first.size, "mip": first.mip}
    for name, value in fixed.items():
        asked = getattr(settings, name)
        if asked is not None and asked != value:
            raise UserError(f"--{name} {asked} differs from {settings.coords}, where it is {value}; leave --{name} out")
    useless = [n for n in ("bbox", "z_train", "z_test") if getattr(settings, n) is not None] + ["test"] * settings.test
    if useless:
        flag = useless[0].replace("_", "-")
        raise UserError(f"--{flag} has no meaning with --coords, which lists the places; leave one of them out")
    return settings.model_copy(update=fixed)


def _open(path: str, mip: int) -> Volume:
    volume = open_volume(path, mip=mip)
    axes = " ".join(volume.meta.axes)
    if axes != "z y x":
        raise UserError(
            f"{path} has axes {axes}; stacks are drawn from volumes z y x, so convert one channel of it first"
        )
    if volume.dtype.kind not in "uif":
        raise UserError(f"{path} holds {volume.dtype}; stacks are drawn from integers or floats")
    return volume


def _starts(volume: Volume, settings: StackSettings) -> Box:
    """First voxels that a stack may have in ``volume``."""
    box = parse_box(settings.bbox, volume.box) if settings.bbox else volume.box
    low, high = split_z(box, settings.z_train, settings.z_test, settings.test)
    box = Box((low, *box.start[1:]), (high, *box.stop[1:]))
    if any(n < s for n, s in zip(box.shape, settings.shape, strict=True)):
        depth, size, _ = settings.shape
        raise UserError(
            f"a stack of {depth} sections of {size} x {size} does not fit into {box} of {volume.path}, "
            f"which is {' x '.join(map(str, box.shape))} (z y x) of the sections for {'testing' if settings.test else 'training'}; "
            "choose a smaller --depth or --size, a finer --mip, or a larger --bbox or z range"
        )
    return Box(box.start, tuple(b - s + 1 for b, s in zip(box.stop, settings.shape, strict=True)))


def _replay(volumes: tuple[Volume, ...], listed: Sequence[Place], settings: StackSettings) -> Replay:
    paths = [v.path for v in volumes]
    which = []
    for i, place in enumerate(listed):
        if len(volumes) > 1 and place.source not in paths:
            raise UserError(
                f"{settings.coords}: sample {i} is from {place.source}, which is none of the sources {', '.join(paths)}; "
                "name all its sources as they are written there"
            )
        k = 0 if len(volumes) == 1 else paths.index(place.source)
        if not place.box.within(volumes[k].box):
            raise UserError(
                f"{settings.coords}: sample {i} lies at {place.box}, outside {paths[k]}, whose box is {volumes[k].box}; "
                "give the volume that the list was made from"
            )
        which.append(k)
    return Replay(volumes, tuple(which), tuple(listed))


def _stack_meta(volumes: Sequence[Volume], name: str, made: dict[str, Any]) -> Meta:
    """The sources' voxel size and units, if they agree."""
    first = volumes[0].meta
    plain = Meta.plain("nzyx", name=name, provenance=made)
    if any((v.meta.voxel_size, v.meta.units) != (first.voxel_size, first.units) for v in volumes):
        return plain
    return Meta(plain.axes, (1.0, *first.voxel_size), ("", *first.units), name=name, provenance=made)


def _is_usable(voxels: NDArray[Any], max_missing: float) -> bool:
    missing = 1 - np.count_nonzero(voxels) / voxels.size
    return bool(missing <= max_missing and voxels.min() < voxels.max())


def _note(folder: Path, index: int) -> Path:
    return folder / f"{index:08d}.json"
