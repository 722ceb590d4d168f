"""Embed images of any number and size, block by block, in volumes that go on after a kill.

```
OUT/                        OUT.ome.zarr (one image)
    NAME.ome.zarr               the embeddings, axes c z y x (c y x for a picture, t before them)
    previews/NAME.png           OUT.preview.png           image and embeddings in colours
    components.json             OUT.components.json       with --preview pca: what colour is which embedding
    embed.json                                            how it was made
```

Each volume says by itself how it was made, and from which checkpoint (see ``lamella.data.embeddings``). What is done is recorded (see
``blockwise``), and a killed job that is started again ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Chain, Executor, Unfinished, run
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.data.image_source import Part
from lamella.data.inputs import Images, Item
from lamella.data.outputs import Outputs, create_like, each
from lamella.infer.maps import Target, blocks_of
from lamella.io import open_volume
from lamella.ops.intensity import Scaling
from lamella.tasks.contrast.embed_preview import write_previews
from lamella.tasks.contrast.embed_settings import EmbedSettings
from lamella.tasks.contrast.embedder import Embedder

RECORD = "embed.json"


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
        largest = max(float(found.max(initial=0)), -float(found.min(initial=0)))  # np.abs would copy it all
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
    outputs = Outputs.of(out, images, record=RECORD, what="embeddings")
    made = provenance(
        **embedder.origin.record(), embedder=embedder.identity(), settings=settings.to_dict(), **(facts or {})
    )
    plan = {"embedder": embedder.identity(), "settings": settings.to_dict()}
    work = outputs.begin(images, plan, overwrite=overwrite)
    good, left_out = each(images, partial(_scalings, embedder), settings.skip_bad)
    items = [item for item, _ in good]
    volumes = _created(items, outputs, embedder, settings, made, work)
    job = _job(good, volumes, embedder, settings.size(embedder.net.ndim))
    run(job, job.chain, label="embedding", ledger=work.ledger("embeddings"), executor=executor)
    previews = write_previews(list(zip(items, volumes, strict=True)), outputs, settings.preview)
    listed = [{"name": i.name, "image": i.path, "embeddings": outputs.volume(i)} for i in items]
    outputs.tell(made, listed, left_out)
    work.finish()
    return Embedded(tuple(outputs.volume(item) for item in items), tuple(left_out), tuple(previews))


def _scalings(embedder: Embedder, item: Item) -> list[Scaling]:
    return [embedder.scaling(part) for part in item.parts]


def _created(
    items: Sequence[Item],
    outputs: Outputs,
    embedder: Embedder,
    settings: EmbedSettings,
    made: dict[str, Any],
    work: Unfinished,
) -> list[Volume]:
    """The volumes to fill, created if that was not done before a kill."""
    if not work.created:
        with outputs.creating(work, made):
            for item in items:
                create_like(item, outputs.volume(item), embedder.net.h_channels, settings.dtype, made)
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
