"""From sections of any number and size to ternary masks, block by block.

```
1. pieces    section block + context -> maps -> pieces of defects, with links to other blocks      (any order)
2. join      which pieces are one defect, and which of these are large enough                      (tables alone)
3. masks     pieces -> 2 inside, 1 near, 0 elsewhere                                               (any order)
```

Each section is looked at by itself. Blocks give what the whole gives, see ``lamella.infer.stitch``. What is done is recorded (see
``blockwise``), and a killed job that is started again ends with the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.blockwise import Block, Crew, Executor, Unfinished, cover, run
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.data.image_source import Part
from lamella.infer.maps import Target, blocks_of
from lamella.infer.stitch import Joined, Maker, PiecesJob, join, objects_of
from lamella.io import create_volume, open_volume
from lamella.io.views import crop
from lamella.ops.masks import ternary
from lamella.prep.convert import begin
from lamella.tasks.defects.detector import Detector, Sections
from lamella.tasks.defects.outputs import Found, beside, write_preview, write_table
from lamella.tasks.defects.settings import FindSettings

_CHUNK = 512


@dataclass(frozen=True)
class MasksJob:
    """Stage 3. Leaves the number of pixels near and inside in ``counts``, one file for each block."""

    pieces: Target
    cut: Cover
    joined: Joined
    near: int
    out: Target
    counts: Path

    def identity(self) -> dict[str, Any]:
        return {"out": self.out.volume.path, "near": self.near, "objects": self.joined.objects}

    def read(self, block: Block) -> NDArray[Any]:
        return self.pieces.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[np.uint8]:
        inside = torch.from_numpy(objects_of(data, block.read, self.cut, self.joined) > 0).float()
        masks = ternary(inside[:, None], self.near)[:, 0].numpy().astype(np.uint8)
        return masks[block.inside]

    def write(self, block: Block, result: NDArray[np.uint8]) -> None:
        self.out.write(block.write, result)
        rows = [[block.write.start[0] + k, *np.bincount(plane.ravel(), minlength=3)] for k, plane in enumerate(result)]
        with replacing(self.counts / f"{block.index}.npy") as temporary:
            np.save(temporary, np.array(rows, np.int64))


def find_defects(
    source: Volume,
    out: str,
    detector: Detector,
    settings: FindSettings,
    *,
    box: Box | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Found:
    """Write the masks of ``source`` (axes z y x, or y x), or of ``box`` of it, to ``out``; uint8, 0 normal, 1 near, 2 inside.

    ``facts`` (run, checkpoint, recipe, mip) are stored with them. Raises UserError for a source that is no stack of grey sections, a box
    outside it, and outputs that exist.
    """
    source = _checked(source, box)
    beside_ = beside(out, settings)
    plan = {
        "source": [source.path, str(source.box), {k: v for k, v in (facts or {}).items() if k in ("mip", "dataset")}],
        "detector": detector.identity(),
        "settings": settings.to_dict(),
    }
    work = begin(source.path, out, plan, overwrite)
    made = provenance(
        source=source.path,
        box=str(source.box),
        detector=detector.identity(),
        settings=settings.to_dict(),
        **(facts or {}),
    )
    finding = Finding(source, out, detector, settings, work)
    with Crew(executor or Executor()) as crew:
        rows = finding.do(crew, made, beside_.maps)
    written = [write_table(beside_.table, rows, source.box)] if beside_.table else []
    if beside_.preview is not None:
        written.append(write_preview(beside_.preview, source, open_volume(out), rows))
    work.finish()
    return Found(out, rows, source.box, tuple(written), beside_.maps)


@dataclass(frozen=True)
class Finding:
    """One search, and the volumes that it fills."""

    source: Volume
    out: str
    detector: Detector
    settings: FindSettings
    work: Unfinished

    def do(self, crew: Crew, made: dict[str, Any], maps: str | None) -> NDArray[np.int64]:
        """All stages; for each section its place in z, and how many pixels are normal, near, inside, and how many defects."""
        source, method = Sections(self.source, self.detector.normalise), self.detector.method
        part, op = Part(source, _depth(self.source)), self.detector.op()
        maker = Maker(method, method.needs, None, flat=True)
        blocks = blocks_of(part, op, (1, self.settings.block, self.settings.block), maker.context, chunk=(1, 1, 1))
        if not self.work.created:
            with self.work.creating():
                self._create(blocks, made, maps)
        tables, counts = (self._folder(name) for name in ("tables", "counts"))
        pieces = Target(open_volume(self._pieces, writable=True))
        kept = None if maps is None else Target(open_volume(maps, writable=True))
        job = PiecesJob(part, op, maker, pieces, tables, kept)
        run(job, blocks, label="finding defects", ledger=self.work.ledger("pieces"), executor=crew)
        joined = join(method, blocks, pieces, tables, self.work.folder / "joined.npz")
        out = Target(open_volume(self.out, writable=True))
        near = self.detector.masks.near
        whole_files = "*" in self.out  # a folder with a file for each section, which is written at once
        size = (1, *blocks.box.shape[1:]) if whole_files else (1, self.settings.block, self.settings.block)
        written = cover(blocks.box, size, (0, near, near), bounds=blocks.box, align=out.chunk)
        masks = MasksJob(pieces, blocks, joined, near, out, counts)
        run(masks, written, label="writing masks", ledger=self.work.ledger("masks"), executor=crew)
        return _summed(counts, len(written), joined, blocks)

    def _create(self, blocks: Cover, made: dict[str, Any], maps: str | None) -> None:
        source = self.source
        meta = replace(source.meta, channel_names=(), provenance=made)
        chunk = tuple(min(_CHUNK if a in "yx" else 1, n) for a, n in zip(meta.axes, source.box.shape, strict=True))
        create_volume(self.out, box=source.box, dtype="uint8", meta=meta, chunk=chunk, overwrite=True)
        small = (1, *(min(n, s) for n, s in zip(blocks.size[1:], blocks.box.shape[1:], strict=True)))
        create_volume(self._pieces, box=blocks.box, dtype="int32", meta=Meta.plain("zyx"), chunk=small, overwrite=True)
        if maps is not None:
            names, spaced = self.detector.method.needs, source.meta
            described = Meta(
                axes=("c", *spaced.axes),
                voxel_size=(1.0, *spaced.voxel_size),
                units=("", *spaced.units),
                channel_names=names,
                name="defects",
                translation=(0.0, *spaced.translation) if spaced.translation else (),
                provenance=made,
            )
            box = Box((0, *source.box.start), (len(names), *source.box.stop))
            whole = (1, *((1,) if "z" in spaced.axes else ()), *small[1:])
            create_volume(maps, box=box, dtype="float32", meta=described, chunk=whole, overwrite=True)

    @property
    def _pieces(self) -> str:
        return str(self.work.folder / "pieces.zarr")

    def _folder(self, name: str) -> Path:
        path = self.work.folder / name
        path.mkdir(exist_ok=True)
        return path


def _checked(source: Volume, box: Box | None) -> Volume:
    if source.meta.axes not in (("z", "y", "x"), ("y", "x")):
        raise UserError(
            f"{source.path} has axes {''.join(source.meta.axes)}; defects are found in grey sections, axes zyx or yx, so convert "
            "one channel or sample of it first"
        )
    if source.dtype.kind not in "uif":
        raise UserError(f"{source.path} holds {source.dtype}; sections must be integers or floats")
    return source if box is None else crop(source, box)


def _depth(source: Volume) -> Box:
    """The box (z, y, x), from 0, of a stack or a single section."""
    return Box.of(source.box.shape if len(source.box.shape) == 3 else (1, *source.box.shape))


def _summed(counts: Path, num_blocks: int, joined: Joined, cut: Cover) -> NDArray[np.int64]:
    """Rows of z, normal, near, inside, defects."""
    rows = np.concatenate([np.load(counts / f"{k}.npy") for k in range(num_blocks)])
    depth = cut.box.shape[0]
    total = np.zeros((depth, 5), np.int64)
    total[:, 0] = np.arange(depth)
    np.add.at(total[:, 1:4], rows[:, 0], rows[:, 1:])
    per_section = len(cut) // depth
    for z in range(depth):
        ends = joined.first[[z * per_section, (z + 1) * per_section]]
        total[z, 4] = len(np.setdiff1d(joined.objects[ends[0] : ends[1]], 0))
    return total
