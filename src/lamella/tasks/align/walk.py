"""The order in which the sections of a volume are aligned, and the volumes that this fills. See ``volume`` for the idea.

One progress bar and one set of workers serve all stages of all sections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lamella.blockwise import Crew, Executor, Job, Unfinished, cover, run
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.progress import Meter, progress
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.tasks.align.drift import Drift, measure_drift
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.frame import frame_of
from lamella.tasks.align.masked import Blanked, CarryMasks, Masked
from lamella.tasks.align.resample import read_plane
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.stages import Chain, Copy, Estimate, Masks, Plane, Render, Stitch, Stored
from lamella.tasks.align.tiles import Tiling

_CHUNK = 256  # side of the fields' chunks, in their own pixels

Items = tuple[tuple[Chain, int], ...]


@dataclass(frozen=True)
class Outputs:
    """Where the aligned volume, its fields and, if there are any, its masks are, a folder or address for what is needed meanwhile, and
    how far the sections have drifted."""

    aligned: str
    fields: str
    scratch: str
    masks: str | None = None
    drift: tuple[Drift, ...] = ()


class Walk:
    """One alignment: its geometry, its volumes and the order of its stages."""

    def __init__(self, source: Volume, box: Box, estimator: Estimator, config: AlignSettings, paths: Outputs) -> None:
        self.masks = source.masks if isinstance(source, Masked) else None
        self.source = source.source if isinstance(source, Masked) else source
        self.box, self.estimator, self.config, self.paths = box, estimator, config, paths
        levels = estimator.fine_levels
        shape = Box.of(box.shape[1:]).scale((2**levels, 2**levels)).shape
        tiling = Tiling((shape[0], shape[1]), -(-config.tile // 2**levels), -(-config.overlap // 2**levels))
        self.plane = Plane(Box(box.start[1:], box.stop[1:]), levels, tiling)
        self.chains = self._find_chains()

    def create(self, facts: dict[str, Any]) -> None:
        """Create all volumes, empty; ``facts`` go into those that stay."""
        self._create_image(self.paths.aligned, facts)
        self._create_fields(self.paths.fields, facts)
        if self._stitched:
            self._create_image(self._chains_path, {})
            self._create_fields(self._chain_fields_path, {})
        if self.paths.masks is not None:
            self._create_image(self.paths.masks, facts, "uint8")
            if self._stitched:
                self._create_image(self._chain_masks_path, {}, "uint8")
        tiling = self.plane.tiling
        shape = tuple(min(tiling.largest, n) for n in tiling.shape)
        self._create_tiles(self._tiles_path, (self.num_slots * len(tiling), 2, *shape))

    def do(self, work: Unfinished, executor: Executor) -> None:
        """All stages of all sections, in order."""
        with progress(f"aligning {self.box.shape[0]} sections", self.num_blocks) as meter, Crew(executor) as crew:
            stages = Stages(work, meter, crew)
            aligned = open_volume(self.paths.aligned, writable=True)
            frame = frame_of(self.source, self.plane.box.start, self.plane.step)
            fields = Stored(open_volume(self.paths.fields, writable=True), frame)
            chain_aligned, chain_fields = aligned, fields
            if self._stitched:
                chain_aligned = open_volume(self._chains_path, writable=True)
                chain_fields = Stored(open_volume(self._chain_fields_path, writable=True))
            first = self.box.start[0]
            stages.run(Copy(self.source, aligned, fields, self.plane, first), self._blocks(1), "first", first)
            self._carry(((self.chains[0], first),), self.paths.masks, fields, stages, f"masks-{first}")
            chain_masks = self._chain_masks_path if self._stitched else self.paths.masks
            self._align_all(chain_aligned, chain_fields, stages, chain_masks)
            if self._stitched:
                self._stitch(aligned, chain_fields, fields, stages)

    def drift(self) -> list[Drift]:
        """How far the sections of the finished volume have drifted."""
        frame = frame_of(self.source, self.plane.box.start, self.plane.step)
        fields = Stored(open_volume(self.paths.fields), frame)
        return measure_drift(fields, self.plane, range(self.box.start[0], self.box.stop[0]))

    def check(self) -> None:
        """Raise UserError if the settings do not suit the sections."""

    @property
    def num_slots(self) -> int:
        """Sections whose tiles are kept at once."""
        return len(self.chains)

    @property
    def jumps(self) -> bool:
        """Whether fields may jump from one pixel to the next."""
        return self.masks is not None or self.config.refine.leaps > 0

    @property
    def num_blocks(self) -> int:
        """Blocks of all stages together."""
        tiles, blocks = len(self.plane.tiling), len(self._blocks(1))
        sections = self.box.shape[0] - 1
        stitching = (len(self.chains) + sections) * blocks if self._stitched else 0
        carrying = (1 + sections * (2 if self._stitched else 1)) * blocks if self.masks is not None else 0
        return blocks + sections * (tiles + blocks) + stitching + carrying

    def _find_chains(self) -> list[Chain]:
        """Chains of the length asked for; they begin earlier where the section is lost, as nothing can be aligned to that."""
        first, last = self.box.start[0], self.box.stop[0] - 1
        length, starts = self.config.chain or self.box.shape[0], [first]
        for z in range(first + length, last, length):
            while z > starts[-1] and self._is_lost(z):
                z -= 1
            if z > starts[-1]:
                starts.append(z)
        return [Chain(a, b) for a, b in zip(starts, [*starts[1:], last], strict=True)]

    def _is_lost(self, z: int) -> bool:
        blocks = cover(self.plane.box, self.config.tile)
        return not any(read_plane(self.source, z, block.write).any() for block in blocks)

    def _rounds(self) -> Iterator[Items]:
        """The sections that can be done at once: the n-th of every chain."""
        longest = max(c.stop - c.start for c in self.chains)
        for n in range(1, longest + 1):
            yield tuple((c, c.start + n) for c in self.chains if c.start + n <= c.stop)

    def _align_all(self, aligned: Volume, fields: Stored, stages: Stages, masks_path: str | None) -> None:
        """All sections of all chains, each in the frame of its chain."""
        for items in self._rounds():
            self._align(items, aligned, fields, stages, masks_path)

    def _align(self, items: Items, aligned: Volume, fields: Stored, stages: Stages, masks_path: str | None) -> None:
        z = items[0][1]
        scratch = open_volume(self._tiles_path, writable=True)
        masks = None
        if self.masks is not None and masks_path is not None:
            masks = Masks(self.masks, open_volume(masks_path))
        estimate = Estimate(
            self.source if masks is None else Blanked(self.source, masks.source),
            aligned if masks is None else Blanked(aligned, masks.aligned),
            fields,
            scratch,
            self.estimator,
            self.plane,
            items,
            self.config.fill,
            self.config.memory,
            masks,
        )
        stages.run(estimate, cover(Box.of((len(items) * len(self.plane.tiling),)), 1), f"estimate-{z}", z)
        render = Render(self.source, aligned, fields, scratch, self.plane, items, self.jumps)
        stages.run(render, self._blocks(len(items)), f"render-{z}", z)
        self._carry(items, masks_path, fields, stages, f"masks-{z}")

    def _carry(self, items: Items, path: str | None, fields: Stored, stages: Stages, name: str) -> None:
        """The masks of sections, as their fields move them."""
        if self.masks is not None and path is not None:
            job = CarryMasks(self.masks, open_volume(path, writable=True), fields, self.plane, items)
            stages.run(job, self._blocks(len(items)), name, items[0][1])

    def _stitch(self, aligned: Volume, chain_fields: Stored, fields: Stored, stages: Stages) -> None:
        """Anchors one after the other (each needs the one before), then all sections at once."""
        first, decay, torn = self.box.start[0], self.config.decay, self.jumps
        for chain in self.chains:
            job = Stitch(
                self.source, None, chain_fields, fields, self.plane, ((chain, chain.stop),), first, decay, torn
            )
            stages.run(job, self._blocks(1), f"anchor-{chain.stop}", chain.stop)
        items = tuple((c, z) for c in self.chains for z in range(c.start + 1, c.stop + 1))
        job = Stitch(self.source, aligned, chain_fields, fields, self.plane, items, first, decay, torn)
        stages.run(job, self._blocks(len(items)), "stitch", None)
        self._carry(items, self.paths.masks, fields, stages, "masks")

    def _blocks(self, num_items: int) -> Cover:
        """Blocks (item, y, x) of sections, on the fields' grid; each is one chunk or more."""
        side = self._side
        size = max(side, self.plane.tiling.core // side * side)
        return cover(Box.of((num_items, *self.plane.tiling.shape)), (1, size, size), align=(1, side, side))

    def _create_image(self, path: str, facts: dict[str, Any], dtype: str | None = None) -> None:
        side = self._side * self.plane.step
        meta = replace(self.source.meta, provenance=facts)
        create_volume(
            path, box=self.box, dtype=dtype or self.source.dtype, meta=meta, chunk=(1, side, side), overwrite=True
        )

    def _create_tiles(self, path: str, shape: tuple[int, ...]) -> None:
        """A volume of tiles (t, c, y, x), each of which is one chunk."""
        meta, chunk = Meta.plain("tcyx"), (1, *shape[1:])
        create_volume(path, box=Box.of(shape), dtype="float32", meta=meta, chunk=chunk, overwrite=True)

    def _create_fields(self, path: str, facts: dict[str, Any]) -> None:
        meta, step = self.source.meta, self.plane.step
        corner = [n // step for n in self.box.start[1:]]
        z, *size = meta.voxel_size
        zero, *origin = meta.translation or (0.0, 0.0, 0.0)
        # the centre of coarse pixel n lies between fine pixels start + n * step and start + (n + 1) * step - 1
        offset = [b - c * step + (step - 1) / 2 for b, c in zip(self.box.start[1:], corner, strict=True)]
        described = Meta(
            axes=("c", "z", "y", "x"),
            voxel_size=(1.0, z, *(n * step for n in size)),
            units=("", *meta.units),
            channel_names=("dy", "dx"),
            name="fields",
            translation=(0.0, zero, *(t + o * n for t, o, n in zip(origin, offset, size, strict=True))),
            provenance=facts,
        )
        box = Box.of((2, self.box.shape[0], *self.plane.tiling.shape)).shift((0, self.box.start[0], *corner))
        chunk = (2, 1, self._side, self._side)
        create_volume(path, box=box, dtype="float32", meta=described, chunk=chunk, overwrite=True)

    @property
    def _side(self) -> int:
        return min(self.plane.tiling.core, _CHUNK)

    @property
    def _stitched(self) -> bool:
        return len(self.chains) > 1

    @property
    def _tiles_path(self) -> str:
        return f"{self.paths.scratch}/tiles.zarr"

    @property
    def _chain_fields_path(self) -> str:
        return f"{self.paths.scratch}/chains.fields.zarr"

    @property
    def _chain_masks_path(self) -> str:
        return f"{self.paths.scratch}/chains.masks.zarr"

    @property
    def _chains_path(self) -> str:
        return f"{self.paths.scratch}/chains.zarr"


@dataclass(frozen=True)
class Stages:
    """What all stages share."""

    work: Unfinished
    meter: Meter
    crew: Crew

    def run(self, job: Job, blocks: Cover, name: str, z: int | None) -> None:
        """One stage; ``name`` is that of its ledger, ``z`` the (first) section it is about."""
        self.meter.note = f"section {z}" if z is not None else name
        run(job, blocks, label=name, ledger=self.work.ledger(name), executor=self.crew, meter=self.meter)
