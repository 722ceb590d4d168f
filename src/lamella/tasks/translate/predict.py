"""Translate images of any number and size, block by block, into outputs that go on after a kill.

```
source  ->  its inputs as the net sees them (view)  ->  net  ->  units of intensity  ->  size of the source  ->  type  ->  output
```

All blocks of all positions and times are one job. Where the view has another size than the source, or a format takes whole planes that
are larger than a block, predictions wait in a hidden volume beside the output and are written in a second pass.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Chain, Crew, Executor, Unfinished, cover, run
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.data.image_source import Part
from lamella.infer.maps import blocks_of
from lamella.io import create_volume, open_volume
from lamella.io.prepared import as_type
from lamella.tasks.translate import predict_files as files
from lamella.tasks.translate.predict_files import Outputs, Sink, VolumeSink
from lamella.tasks.translate.predict_page import write_previews
from lamella.tasks.translate.predict_settings import TranslateSettings
from lamella.tasks.translate.predict_source import Source
from lamella.tasks.translate.translator import Translator

_INSIDE = 0.5  # probability from which a voxel belongs to a segmentation
_RENDERED = (1, 1024, 1024)  # voxels that are written at once in the second pass


@dataclass(frozen=True)
class Translated:
    """What came of it: what was written, one line for each position that was left out, and the page if there is one."""

    written: tuple[str, ...]
    left_out: tuple[str, ...]
    page: Path | None


@dataclass(frozen=True)
class Plan:
    """What is translated by which translator, and where it goes. Translators differ in how inputs are normalised only."""

    source: Source
    outputs: Outputs
    translators: tuple[Translator, ...]

    @property
    def translator(self) -> Translator:
        """For all that they share."""
        return self.translators[0]

    @cached_property
    def parts(self) -> list[list[Part]]:
        """The views of all times of each item."""
        return [item.parts(own) for item, own in zip(self.source.items, self.translators, strict=True)]

    def waits(self, size: tuple[int, ...]) -> bool:
        """Whether a second pass is needed: for another size, or for planes that are written whole and larger than a block."""
        resized = any(
            parts[0].volume.box.shape[2:] != item.inputs.box.shape[2:]
            for parts, item in zip(self.parts, self.source.items, strict=True)
        )
        large = any(max(parts[0].box.shape[1:]) > min(size[1:]) for parts in self.parts)
        return resized or (self.outputs.whole_planes and large)


@dataclass(frozen=True)
class Piece:
    """One time of one item, and where its translation goes."""

    part: Part
    time: int
    sink: Sink


@dataclass(frozen=True)
class Stored:
    """How predictions are stored: of segmentations integers are 1 inside, of intensities they are rounded and cut to their range."""

    dtype: np.dtype[Any]
    segments: bool

    def __call__(self, values: NDArray[np.float32]) -> NDArray[Any]:
        if self.segments and self.dtype.kind in "iu":
            return (values >= _INSIDE).astype(self.dtype)
        return as_type(values, self.dtype)


class TranslateJob:
    """Reads a block of a view with its context, applies the net, and writes intensities; block by block of a chain."""

    def __init__(self, pieces: Sequence[Piece], chain: Chain, translator: Translator, stored: Stored) -> None:
        self.pieces, self.chain, self.stored = tuple(pieces), chain, stored
        self.op, self.restore = translator.op, translator.restore

    def identity(self) -> dict[str, Any]:
        parts = [[p.part.volume.path, p.time, str(p.part.volume.box)] for p in self.pieces]
        return {"parts": parts, "op": self.op.identity(), "dtype": str(self.stored.dtype)}

    def read(self, block: Block) -> NDArray[Any]:
        return self._piece(block).part.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        found = self.op(data)[(slice(None), *block.inside)]
        return self.stored(np.stack([line(values) for line, values in zip(self.restore, found, strict=True)]))

    def write(self, block: Block, result: NDArray[Any]) -> None:
        piece = self._piece(block)
        piece.sink.write(piece.time, block.write, result)

    def _piece(self, block: Block) -> Piece:
        return self.pieces[self.chain.volume_of(block)]


class RenderJob:
    """The second pass: predictions that wait, resized to their source and stored as asked."""

    def __init__(self, waiting: Sequence[tuple[Volume, Sink]], chain: Chain, stored: Stored) -> None:
        self.waiting, self.chain, self.stored = tuple(waiting), chain, stored

    def identity(self) -> dict[str, Any]:
        return {"volumes": [volume.path for volume, _ in self.waiting], "dtype": str(self.stored.dtype)}

    def read(self, block: Block) -> NDArray[Any]:
        volume, _ = self.waiting[self.chain.volume_of(block)]
        start, stop, box = block.write.start, block.write.stop, volume.box
        inner = Box((start[0], 0, *start[1:]), (stop[0], box.shape[1], *stop[1:]))
        return volume.read(inner.shift(box.start))

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return self.stored(data[0])

    def write(self, block: Block, result: NDArray[Any]) -> None:
        _, sink = self.waiting[self.chain.volume_of(block)]
        sink.write(block.write.start[0], Box(block.write.start[1:], block.write.stop[1:]), result)


def translate_images(
    source: Source,
    out: str,
    translators: Sequence[Translator],
    settings: TranslateSettings,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Translated:
    """Translate the items of ``source``, each by its translator (see ``adapted``), into what ``outputs_of`` makes of ``out``.

    ``facts`` are stored with the results. Raises UserError for an output that exists, that is no output of lamella's, or that would lie
    on an image, and for types and formats that do not fit.
    """
    first = translators[0]
    outputs = files.outputs_of(source, out, settings)
    files.check_outputs(source, outputs, len(first.targets))
    stored = Stored(files.type_of(first, outputs, settings), first.segments)
    made = provenance(translator=first.identity(), settings=settings.to_dict(), **(facts or {}))
    work = _begin(source, outputs, translators, settings, overwrite)
    if not work.created:
        with work.creating():
            if outputs.layout == "files":
                shutil.rmtree(outputs.out, ignore_errors=True)
            files.create(source, outputs, first, stored.dtype, made)
    plan = Plan(source, outputs, tuple(translators))
    with Crew(executor or Executor()) as crew:
        _translate(plan, settings, stored, work, crew)
    rows = [
        {"name": item.name, "image": item.raw.path, "translation": outputs.path(item), "targets": list(first.targets)}
        for item in source.items
    ]
    if not outputs.single:
        write_json(outputs.folder / files.RECORD, {**made, "images": rows, "left_out": list(source.left_out)})
    page = write_previews(source, outputs, translators, made) if settings.plot else None
    work.finish()
    return Translated(tuple(str(row["translation"]) for row in rows), source.left_out, page)


def _begin(
    source: Source, outputs: Outputs, translators: Sequence[Translator], settings: TranslateSettings, overwrite: bool
) -> Unfinished:
    out = Path(outputs.out)
    exists = out.exists() and (not out.is_dir() or any(out.iterdir()))
    marks = (files.RECORD, "lamella.json", "zarr.json", ".zgroup")
    if exists and overwrite and out.is_dir() and not any((out / mark).exists() for mark in marks):
        raise UserError(f"{out} is not overwritten, since lamella does not know it as its own; choose another --output")
    identities = [t.identity() for t in {id(t): t for t in translators}.values()]
    plan = {
        "images": [[item.name, item.raw.path, str(item.inputs.box)] for item in source.items],
        "translators": identities,
        "settings": {k: v for k, v in settings.to_dict().items() if k != "plot"},
    }
    return Unfinished.begin(out, plan, exists=exists, overwrite=overwrite)


def _translate(plan: Plan, settings: TranslateSettings, stored: Stored, work: Unfinished, crew: Crew) -> None:
    """Both passes, or the one that is enough."""
    size = settings.size(plan.translator.net.ndim, plan.translator.depth)
    sinks = [plan.outputs.open(item, plan.translator) for item in plan.source.items]
    if not plan.waits(size):
        _first_pass(plan, sinks, size, stored, work, crew)
        return
    stride = plan.translator.op.stride
    scratch = [
        _scratch(work.folder / f"{k}.ome.zarr", parts, plan.translator, stride) for k, parts in enumerate(plan.parts)
    ]
    _first_pass(plan, scratch, size, Stored(np.dtype("float32"), False), work, crew)
    waiting = []
    for item, own, inner, sink in zip(plan.source.items, plan.translators, scratch, sinks, strict=True):
        bare = own.preprocessing.model_copy(update={"statistics": None})
        waiting.append((bare.restored(inner.volume, tuple(range(len(own.targets))), item.inputs), sink))
    chain = Chain([_rendered(volume, sink, plan.outputs) for volume, sink in waiting])
    run(RenderJob(waiting, chain, stored), chain, label="writing", ledger=work.ledger("written"), executor=crew)


def _first_pass(
    plan: Plan, sinks: Sequence[Sink], size: tuple[int, ...], stored: Stored, work: Unfinished, crew: Crew
) -> None:
    """From views to ``sinks``; all blocks of all times of all items."""
    op, pieces, covers = plan.translator.op, [], []
    for parts, sink in zip(plan.parts, sinks, strict=True):
        for time, part in enumerate(parts):
            pieces.append(Piece(part, time, sink))
            covers.append(
                blocks_of(part, op, [max(n, s) for n, s in zip(size, op.stride, strict=True)], chunk=sink.chunk)
            )
    chain = Chain(covers)
    job = TranslateJob(pieces, chain, plan.translator, stored)
    run(job, chain, label="translating", ledger=work.ledger("blocks"), executor=crew)


def _scratch(path: Path, parts: Sequence[Part], translator: Translator, stride: Sequence[int]) -> VolumeSink:
    """A hidden volume (t c z y x, float32) on the grid of the view, or what an earlier call filled of it."""
    view, targets = parts[0].volume.box, len(translator.targets)
    box = Box((view.start[0], 0, *view.start[2:]), (view.stop[0], targets, *view.stop[2:]))
    if not path.exists():
        meta = Meta.plain("tczyx")
        create_volume(path, box=box, dtype="float32", meta=meta, chunk=files.chunk_of(box, meta, stride))
    return VolumeSink(open_volume(path, writable=True), tuple(range(targets)))


def _rendered(volume: Volume, sink: Sink, outputs: Outputs) -> Cover:
    """Blocks (t, z, y, x) from 0 in which an output is written: whole planes where the format wants them."""
    t, _, z, y, x = volume.box.shape
    whole = Box.of((t, z, y, x))
    size = (1, 1, y, x) if outputs.whole_planes else (1, *_RENDERED)
    return cover(whole, size, bounds=whole, align=(1, *sink.chunk))
