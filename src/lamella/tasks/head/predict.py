"""Predict images of any number and size with a head, block by block, in volumes that go on after a kill.

```
OUT/                              OUT.ome.zarr (one image)
    NAME.ome.zarr                     classes: the most probable class of each voxel, uint8, axes z y x
    NAME.maps.ome.zarr                OUT.maps.ome.zarr   with --maps: probabilities, float32, axes c z y x
    predict.json                                          how it was made
```

Of a head that predicts affinities, ``NAME.ome.zarr`` are the maps, c z y x. Each volume says by itself how it was made. What is done
is recorded (see ``blockwise``), and a killed job that is started again ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Chain, Executor, Unfinished, run
from lamella.core.provenance import provenance
from lamella.data.image_source import Part
from lamella.data.inputs import Images, Item
from lamella.data.outputs import Outputs, create_like, each
from lamella.infer.maps import SpaceOp, Target, blocks_of
from lamella.io import open_volume
from lamella.tasks.head.predict_settings import PredictSettings
from lamella.tasks.head.predictor import HeadPredictor

RECORD = "predict.json"


@dataclass(frozen=True)
class Predicted:
    """What came of it: the volumes that were written, and one line for each image that was left out."""

    volumes: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """One time point of an image: its op, and where its maps, or its classes, or both go."""

    part: Part
    op: SpaceOp
    maps: Target | None
    classes: Target | None


class PredictJob:
    """Reads a block with its context, applies the op, and writes what comes of it; block by block of a chain."""

    def __init__(self, pieces: Sequence[Piece], chain: Chain, predictor: HeadPredictor) -> None:
        self.pieces, self.chain, self.predictor = tuple(pieces), chain, predictor

    def identity(self) -> dict[str, Any]:
        outs = [[t.volume.path for t in (p.maps, p.classes) if t is not None] for p in self.pieces]
        parts = [[p.part.volume.path, p.part.time] for p in self.pieces]
        return {"sources": parts, "outputs": outs, "predictor": self.predictor.identity()}

    def read(self, block: Block) -> NDArray[Any]:
        return self._piece(block).part.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[np.float32]:
        return self._piece(block).op(data)[(slice(None), *block.inside)]

    def write(self, block: Block, result: NDArray[np.float32]) -> None:
        piece = self._piece(block)
        if piece.maps is not None:
            piece.maps.write(block.write, result)
        if piece.classes is not None:
            piece.classes.write(block.write, result.argmax(0).astype(np.uint8))

    def _piece(self, block: Block) -> Piece:
        return self.pieces[self.chain.volume_of(block)]


def predict_images(
    images: Images,
    out: str,
    predictor: HeadPredictor,
    settings: PredictSettings,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Predicted:
    """Predict ``images`` into the folder ``out``, or, if there is one and ``out`` ends in .zarr, into that volume.

    ``facts`` are stored with the results. Raises UserError for an output that exists or is no folder of predictions, and for what
    is wrong with an image, unless ``settings.skip_bad``.
    """
    outputs = Outputs.of(out, images, record=RECORD, what="predictions of heads")
    outputs_made = _What.of(predictor, settings)
    record = {"offsets": predictor.offsets} if predictor.offsets else {"classes": predictor.channel_names}
    made = provenance(predictor=predictor.identity(), settings=settings.to_dict(), **record, **(facts or {}))
    plan = {"predictor": predictor.identity(), "settings": settings.to_dict()}
    work = outputs.begin(images, plan, overwrite=overwrite)
    good, left_out = each(images, partial(_ops, predictor), settings.skip_bad)
    volumes = _created([item for item, _ in good], outputs, outputs_made, made, work)
    job = _job(good, volumes, outputs_made, predictor, settings.size(predictor.net.ndim))
    run(job, job.chain, label="predicting", ledger=work.ledger("maps"), executor=executor)
    listed = [{"name": i.name, "image": i.path, "output": outputs.volume(i)} for i, _ in good]
    outputs.tell(made, listed, left_out)
    work.finish()
    return Predicted(tuple(outputs.volume(item) for item, _ in good), tuple(left_out))


@dataclass(frozen=True)
class _What:
    """Which volumes there are for each image: classes, maps, or both."""

    classes: bool
    maps: bool
    names: tuple[str, ...]

    @classmethod
    def of(cls, predictor: HeadPredictor, settings: PredictSettings) -> _What:
        classes = predictor.name == "classes"
        return cls(classes, settings.maps or not classes, predictor.channel_names)

    def paths(self, item: Item, outputs: Outputs) -> dict[str, str]:
        """Where the volumes of an image go."""
        if not self.classes:
            return {"maps": outputs.volume(item)}
        return {"classes": outputs.volume(item), **({"maps": outputs.volume(item, "maps")} if self.maps else {})}


def _ops(predictor: HeadPredictor, item: Item) -> list[SpaceOp]:
    return [predictor.op(part) for part in item.parts]


def _created(
    items: Sequence[Item], outputs: Outputs, what: _What, made: dict[str, Any], work: Unfinished
) -> list[dict[str, Any]]:
    """The volumes to fill, by what they hold, created if that was not done before a kill."""
    if not work.created:
        with outputs.creating(work, made):
            for item in items:
                for kind, path in what.paths(item, outputs).items():
                    names, dtype = (what.names, "float32") if kind == "maps" else ((), "uint8")
                    create_like(item, path, len(names), dtype, made, names)
    return [
        {kind: open_volume(path, writable=True) for kind, path in what.paths(item, outputs).items()} for item in items
    ]


def _job(
    good: Sequence[tuple[Item, list[SpaceOp]]],
    volumes: Sequence[dict[str, Any]],
    what: _What,
    predictor: HeadPredictor,
    size: tuple[int, ...],
) -> PredictJob:
    pieces, covers = [], []
    for (item, ops), by_kind in zip(good, volumes, strict=True):
        for time, (part, op) in enumerate(zip(item.parts, ops, strict=True)):
            at = time if "t" in item.volume.meta.axes else None
            targets = {kind: Target(volume, at) for kind, volume in by_kind.items()}
            pieces.append(Piece(part, op, targets.get("maps"), targets.get("classes")))
            chunk = next(iter(targets.values())).chunk
            covers.append(blocks_of(part, op, [max(n, c) for n, c in zip(size, op.context, strict=True)], chunk=chunk))
    return PredictJob(pieces, Chain(covers), predictor)
