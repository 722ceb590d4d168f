"""Align a whole volume of serial sections, of any size.

```
section 0 ── section 1 ── section 2 ── section 3 ── section 4      one chain: each to its aligned neighbour
section 0 ── section 1 ── section 2                                chains of 2, side by side, ...
                          section 2 ── section 3 ── section 4      ... stitched by composing fields
```

A section's field leads from its place in the aligned volume straight to the source, so every pixel is resampled once however long
the chain. Memory holds a few tiles. Everything that is done is recorded (see ``blockwise``), and a killed job that is
started again ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lamella.blockwise import Executor, Unfinished, cover, run
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.stages import Chain, Copy, Estimate, Plane, Render, Stitch, Stored
from lamella.tasks.align.tiles import Tiling


@dataclass(frozen=True)
class Outputs:
    """Where the aligned volume and its fields are."""

    aligned: str
    fields: str


def fields_path(out: str) -> str:
    """Where the fields of an aligned volume lie: beside it, ``NAME.fields.ome.zarr``."""
    head, _, name = out.rstrip("/").rpartition("/")
    for suffix in (".ome.zarr", ".zarr", ".n5", ".h5", ".tif", ".tiff"):
        name = name.removesuffix(suffix)
    parent = f"{head}/" if head else ""
    return f"{parent.removeprefix('precomputed://')}{name}.fields.ome.zarr"


def align_volume(
    source: Volume,
    out: str,
    estimator: Estimator,
    config: AlignSettings,
    *,
    box: Box | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Outputs:
    """Align ``source`` (axes z y x) inside ``box`` and write the aligned volume to ``out`` and its fields beside it.

    ``facts`` (run, checkpoint, recipe) are stored in both. Raises UserError for a source that is no stack of sections, a box
    outside it, fewer than two sections, a folder of section files as output, or outputs that exist.
    """
    box = _checked(source, source.box if box is None else box)
    if "*" in out:
        raise UserError(
            f"output {out} is a folder of whole sections, and sections are aligned piece by piece; write NAME.ome.zarr and "
            "then run: lamella convert NAME.ome.zarr " + repr(out)
        )
    paths = Outputs(out, fields_path(out))
    plan = {
        "source": source.path,
        "source_box": str(source.box),
        "box": str(box),
        "config": config.to_dict(),
        "checkpoint": _digest(estimator),
        "normaliser": repr(estimator.normalise),
    }
    exists = any(_exists(path) for path in (paths.aligned, paths.fields))
    work = Unfinished.begin(out, plan, exists=exists, overwrite=overwrite)
    walk = _Walk(source, estimator, config, box, paths, work, executor or Executor())
    if not work.created:
        with work.creating():
            walk.create(provenance(source=source.path, box=str(box), config=config.to_dict(), **(facts or {})))
    walk.do()
    work.finish()
    return paths


class _Walk:
    """One alignment: its geometry, its volumes and the order of its stages."""

    def __init__(
        self,
        source: Volume,
        estimator: Estimator,
        config: AlignSettings,
        box: Box,
        paths: Outputs,
        work: Unfinished,
        executor: Executor,
    ) -> None:
        self.source, self.estimator, self.config, self.box = source, estimator, config, box
        self.paths, self.work, self.executor = paths, work, executor
        levels = estimator.fine_levels
        shape = Box.of(box.shape[1:]).scale((2**levels, 2**levels)).shape
        tiling = Tiling((shape[0], shape[1]), -(-config.tile // 2**levels), -(-config.overlap // 2**levels))
        self.plane = Plane(Box(box.start[1:], box.stop[1:]), levels, tiling)
        length = config.chain or box.shape[0]
        last = box.stop[0] - 1
        self.chains = [Chain(z, min(z + length, last)) for z in range(box.start[0], last, length)]

    def create(self, facts: dict[str, Any]) -> None:
        """Create all volumes, empty."""
        meta, core = self.source.meta, self.plane.tiling.core
        side = min(core, 256)
        chunk = (1, side * self.plane.step, side * self.plane.step)
        create_volume(
            self.paths.aligned,
            box=self.box,
            dtype=self.source.dtype,
            meta=replace(meta, provenance=facts),
            chunk=chunk,
            overwrite=True,
        )
        for path in [self.paths.fields] + ([self._chain_fields_path] if self._stitched else []):
            self._create_fields(path, meta, facts, side)
        if self._stitched:
            create_volume(self._chain_aligned_path, box=self.box, dtype=self.source.dtype, meta=meta, chunk=chunk)
        largest, items = self.plane.tiling.largest, len(self.chains) * len(self.plane.tiling)
        shape = (items, 2, min(largest, self._coarse.shape[0]), min(largest, self._coarse.shape[1]))
        create_volume(
            self._scratch_path, box=Box.of(shape), dtype="float32", meta=Meta.plain("tcyx"), chunk=(1, *shape[1:])
        )

    def do(self) -> None:
        """All stages of all sections, in order."""
        aligned = open_volume(self.paths.aligned, writable=True)
        fields = Stored(open_volume(self.paths.fields, writable=True))
        chain_aligned, chain_fields = aligned, fields
        if self._stitched:
            chain_aligned = open_volume(self._chain_aligned_path, writable=True)
            chain_fields = Stored(open_volume(self._chain_fields_path, writable=True))
        first = self.box.start[0]
        self._run(Copy(self.source, aligned, fields, self.plane, first), 1, f"section {first}", "first")
        for items in self._rounds():
            self._estimate(items, chain_aligned, chain_fields)
            self._render(items, chain_aligned, chain_fields)
        if self._stitched:
            self._stitch(aligned, chain_fields, fields)

    def _rounds(self) -> Iterator[tuple[tuple[Chain, int], ...]]:
        """The sections that can be done at once: the n-th of every chain."""
        longest = max(c.stop - c.start for c in self.chains)
        for n in range(1, longest + 1):
            yield tuple((c, c.start + n) for c in self.chains if c.start + n <= c.stop)

    def _estimate(self, items: tuple[tuple[Chain, int], ...], aligned: Volume, fields: Stored) -> None:
        scratch = open_volume(str(self._scratch_path), writable=True)
        job = Estimate(
            self.source,
            aligned,
            fields,
            scratch,
            self.estimator,
            self.plane,
            items,
            self.config.fill,
            self.config.memory,
            self.work.plan["checkpoint"],
        )
        blocks = cover(Box.of((len(items) * len(self.plane.tiling),)), 1)
        run(
            job, blocks, label=_label("estimate", items), ledger=self._ledger("estimate", items), executor=self.executor
        )

    def _render(self, items: tuple[tuple[Chain, int], ...], aligned: Volume, fields: Stored) -> None:
        scratch = open_volume(str(self._scratch_path))
        job = Render(self.source, aligned, fields, scratch, self.plane, items)
        self._run(job, len(items), _label("render", items), f"render-{items[0][1]}")

    def _stitch(self, aligned: Volume, chain_fields: Stored, fields: Stored) -> None:
        """Anchors one after the other (each needs the one before), then all sections at once."""
        first, decay = self.box.start[0], self.config.decay
        for chain in self.chains:
            job = Stitch(self.source, None, chain_fields, fields, self.plane, ((chain, chain.stop),), first, decay)
            self._run(job, 1, f"stitch section {chain.stop}", f"anchor-{chain.stop}")
        items = tuple((c, z) for c in self.chains for z in range(c.start + 1, c.stop + 1))
        job = Stitch(self.source, aligned, chain_fields, fields, self.plane, items, first, decay)
        self._run(job, len(items), "stitch", "stitch")

    def _run(self, job: Any, num_items: int, label: str, ledger: str) -> None:
        """Run a job that writes blocks of sections; its blocks are (item, y, x) on the fields' grid, one chunk or more each."""
        side = min(self.plane.tiling.core, 256)
        shape = self.plane.tiling.shape
        size = max(side, self.plane.tiling.core // side * side)
        blocks = cover(Box.of((num_items, *shape)), (1, size, size), align=(1, side, side))
        run(job, blocks, label=label, ledger=self.work.ledger(ledger), executor=self.executor)

    def _ledger(self, stage: str, items: Sequence[tuple[Chain, int]]) -> Path:
        return self.work.ledger(f"{stage}-{items[0][1]}")

    def _create_fields(self, path: str | Path, meta: Meta, facts: dict[str, Any], side: int) -> None:
        step = self.plane.step
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
        start = (0, self.box.start[0], *corner)
        box = Box.of((2, self.box.shape[0], *self._coarse.shape)).shift(start)
        create_volume(str(path), box=box, dtype="float32", meta=described, chunk=(2, 1, side, side), overwrite=True)

    @property
    def _coarse(self) -> Box:
        return Box.of(self.plane.tiling.shape)

    @property
    def _stitched(self) -> bool:
        return len(self.chains) > 1

    @property
    def _scratch_path(self) -> Path:
        return self.work.folder / "tiles.zarr"

    @property
    def _chain_fields_path(self) -> str:
        return str(self.work.folder / "chains.fields.zarr")

    @property
    def _chain_aligned_path(self) -> str:
        return str(self.work.folder / "chains.zarr")


def _checked(source: Volume, box: Box) -> Box:
    if source.meta.axes != ("z", "y", "x"):
        raise UserError(
            f"{source.path} has axes {''.join(source.meta.axes)}; aligning needs a stack of grey sections with axes zyx, so "
            "convert one channel or sample of it first"
        )
    if not box.within(source.box):
        raise UserError(f"box {box} does not lie inside {source.path}, whose box is {source.box}; choose one within it")
    if box.shape[0] < 2:
        raise UserError(f"box {box} holds {box.shape[0]} section; give 2 or more to align")
    if source.dtype.kind not in "iuf":
        raise UserError(f"{source.path} holds {source.dtype}, not grey values; give integers or floats")
    return box


def _digest(estimator: Estimator) -> str:
    """Fingerprint of the net: a changed checkpoint must not go on with another's sections."""
    buffer = io.BytesIO()
    for name, value in sorted(estimator.net.state_dict().items()):
        buffer.write(name.encode())
        buffer.write(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:16]


def _exists(path: str) -> bool:
    if "://" not in path:
        return Path(path).exists()
    try:
        open_volume(path)
    except UserError:
        return False
    return True


def _label(stage: str, items: Sequence[tuple[Chain, int]]) -> str:
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{stage} section {items[0][1]}{more}"
