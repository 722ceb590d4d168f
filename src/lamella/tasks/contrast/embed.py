"""Embed images of any number and size, block by block, in volumes that go on after a kill.

What is done is recorded (see ``blockwise``), and a killed job that is started again ends with the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Chain, Executor, Unfinished, run
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.data.image_source import Part
from lamella.data.inputs import Images, Item, attempt
from lamella.infer.maps import Target, blocks_of
from lamella.io import open_volume
from lamella.ops.intensity import Scaling
from lamella.tasks.contrast import embed_files as files
from lamella.tasks.contrast.embed_preview import write_previews
from lamella.tasks.contrast.embed_settings import EmbedSettings
from lamella.tasks.contrast.embedder import Embedder


@dataclass(frozen=True)
class Embedded:
    """What came of it: the volumes and previews that were written, and one line for each image that was left out."""

    volumes: tuple[str, ...]
    left_out: tuple[str, ...]
    previews: tuple[Path, ...]


@dataclass(frozen=True)
class Piece:
    """One time point of an image: how its intensities are scaled, and where its embeddings go."""

    part: Part
    scaling: Scaling
    out: Target


class EmbedJob:
    """Reads a block with its context, scales it, applies the net, and writes the embeddings; block by block of a chain."""

    def __init__(self, pieces: Sequence[Piece], chain: Chain, embedder: Embedder) -> None:
        self.pieces, self.chain, self.embedder, self.op = tuple(pieces), chain, embedder, embedder.op()

    def identity(self) -> dict[str, Any]:
        sources = [[p.part.volume.path, p.part.time, p.out.volume.path, repr(p.scaling)] for p in self.pieces]
        return {"sources": sources, "embedder": self.embedder.identity()}

    def read(self, block: Block) -> NDArray[Any]:
        return self._piece(block).part.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        piece = self._piece(block)
        found = self.op(piece.scaling(data))[(slice(None), *block.inside)]
        dtype = piece.out.volume.dtype
        largest = float(np.abs(found).max(initial=0))
        if dtype == np.float16 and not largest <= np.finfo(np.float16).max:
            raise UserError(
                f"embeddings of {piece.part.volume.path} reach {largest:.3g}, more than float16 holds; use --dtype float32"
            )
        return found.astype(dtype)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        self._piece(block).out.write(block.write, result)

    def _piece(self, block: Block) -> Piece:
        return self.pieces[self.chain.volume_of(block)]


def embed_images(
    images: Images,
    out: str,
    embedder: Embedder,
    settings: EmbedSettings,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Embedded:
    """Embed ``images`` into the folder ``out``, or, if there is one and ``out`` ends in .zarr, into that volume.

    ``facts`` are stored with the results. Raises UserError for an output that exists or is no folder of embeddings, and for what
    is wrong with an image, unless ``settings.skip_bad``.
    """
    outputs = files.outputs_of(out, len(images.items) + len(images.left_out))
    _check_outputs(images, outputs)
    made = provenance(
        **embedder.origin.record(), embedder=embedder.identity(), settings=settings.to_dict(), **(facts or {})
    )
    work = _begin(images, outputs, embedder, settings, overwrite)
    good, left_out = _measured(images, embedder, settings.skip_bad)
    items = [item for item, _ in good]
    volumes = _created(items, outputs, embedder, settings, made, work)
    job = _job(good, volumes, embedder, settings.size(embedder.net.ndim))
    run(job, job.chain, label="embedding", ledger=work.ledger("embeddings"), executor=executor)
    previews = write_previews(list(zip(items, volumes, strict=True)), outputs, settings.preview)
    if not outputs.single:
        listed = [{"name": i.name, "image": i.path, "embeddings": outputs.volume(i)} for i in items]
        write_json(Path(outputs.out) / files.RECORD, {**made, "images": listed, "left_out": left_out})
    work.finish()
    return Embedded(tuple(outputs.volume(item) for item in items), tuple(left_out), tuple(previews))


def _check_outputs(images: Images, outputs: files.Outputs) -> None:
    """Refuse an output that is an image, or a folder that holds one."""
    out = Path(outputs.out).resolve()
    for item in images.items:
        if "://" not in item.path and Path(item.path).resolve().is_relative_to(out):
            raise UserError(f"output {outputs.out} is, or holds, the image {item.path}; choose another")


def _begin(
    images: Images, outputs: files.Outputs, embedder: Embedder, settings: EmbedSettings, overwrite: bool
) -> Unfinished:
    out = Path(outputs.out)
    exists = out.exists() and (outputs.single or not out.is_dir() or any(out.iterdir()))
    if exists and overwrite and not outputs.single and not (out / files.RECORD).exists():
        raise UserError(
            f"{out} is not overwritten, since it holds no {files.RECORD} that would tell it is lamella's; choose another output"
        )
    plan = {
        "images": [[item.name, item.path, str(item.volume.box)] for item in images.items],
        "embedder": embedder.identity(),
        "settings": settings.to_dict(),
    }
    return Unfinished.begin(out, plan, exists=exists, overwrite=overwrite)


def _measured(images: Images, embedder: Embedder, skip_bad: bool) -> tuple[list[tuple[Item, list[Scaling]]], list[str]]:
    """How each image's time points are scaled, and one line for each image that cannot be read."""
    good: list[tuple[Item, list[Scaling]]] = []
    left_out = list(images.left_out)
    with progress("measuring intensities", len(images.items), "images") as meter:
        for item in images.items:
            found = attempt(partial(_scalings, item, embedder), item.path, skip_bad)
            if isinstance(found, str):
                left_out.append(found)
            else:
                good.append((item, found))
            meter.advance()
    if not good:
        raise UserError(f"none of the images can be used; the first problem: {left_out[0]}")
    return good, left_out


def _scalings(item: Item, embedder: Embedder) -> list[Scaling]:
    return [embedder.scaling(part) for part in item.parts]


def _created(
    items: Sequence[Item],
    outputs: files.Outputs,
    embedder: Embedder,
    settings: EmbedSettings,
    made: dict[str, Any],
    work: Unfinished,
) -> list[Volume]:
    """The volumes to fill, created if that was not done before a kill."""
    if not work.created:
        with work.creating():
            if not outputs.single:
                shutil.rmtree(outputs.out, ignore_errors=True)
                Path(outputs.out).mkdir(parents=True)
                write_json(Path(outputs.out) / files.RECORD, made)
            for item in items:
                files.create_embeddings(item, outputs.volume(item), embedder.net.h_channels, settings.dtype, made)
    return [open_volume(outputs.volume(item), writable=True) for item in items]


def _job(
    good: Sequence[tuple[Item, list[Scaling]]], volumes: Sequence[Volume], embedder: Embedder, size: tuple[int, ...]
) -> EmbedJob:
    op, pieces, covers = embedder.op(), [], []
    for (item, scalings), volume in zip(good, volumes, strict=True):
        for time, (part, scaling) in enumerate(zip(item.parts, scalings, strict=True)):
            out = Target(volume, time if "t" in item.volume.meta.axes else None)
            pieces.append(Piece(part, scaling, out))
            covers.append(
                blocks_of(part, op, [max(n, c) for n, c in zip(size, op.context, strict=True)], chunk=out.chunk)
            )
    return EmbedJob(pieces, Chain(covers), embedder)
