"""Predict one image that is too large to go through at once: stage by stage, block by block, each recorded in a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Crew, cover, run
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.volume import Meta, Volume
from lamella.data.inputs import Item
from lamella.data.labelled_source import Part
from lamella.infer.maps import SpaceOp, Target, blocks_of, predict_maps
from lamella.infer.stitch import Joined, Maker, PiecesJob, RenderJob, join
from lamella.io import create_volume, open_volume
from lamella.tasks.segment import predict_files as files
from lamella.tasks.segment.predictor import Segmenter

_DEEP = (
    64,
    256,
    256,
)  # voxels of a block in which instances of volumes are made; their maps are read, not computed again
_PLANES = (16, 1024, 1024)  # voxels of a block of maps that a 2D net makes of a stack


class Stored:
    """An op that gives maps that are stored already."""

    context: tuple[int, ...] = (0, 0, 0)
    stride: tuple[int, ...] = (1, 1, 1)

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        return patch

    def identity(self) -> dict[str, Any]:
        return {"stored": True}


@dataclass(frozen=True)
class Large:
    """One image to be predicted block by block. ``size`` is that of a block, z y x, ``scratch`` a folder for what is needed on the
    way: it holds everything that makes the work go on after a kill.
    """

    item: Item
    paths: files.Paths
    segmenter: Segmenter
    size: tuple[int, int, int]
    flat: bool
    maps: bool
    scratch: Path
    facts: dict[str, Any]

    def do(self, crew: Crew) -> int:
        """All stages; the number of objects."""
        made = [self._pieces(k, part, crew) for k, part in enumerate(self.item.parts)]
        count = max(joined.count for _, _, joined in made)
        dtype = files.label_dtype(count, self.paths.format, self.paths.labels)
        out = self._labels_volume(dtype, made[0][1])
        for k, (pieces, cut, joined) in enumerate(made):
            job = RenderJob(pieces, cut, joined, Target(out, self.time(k)))
            blocks = cover(cut.box, self._render_size(cut, out), bounds=cut.box)
            run(job, blocks, label="writing instances", ledger=self._ledger("labels", k), executor=crew)
        self._export(out)
        return sum(joined.count for _, _, joined in made)

    def _pieces(self, k: int, part: Part, crew: Crew) -> tuple[Target, Cover, Joined]:
        """Stages 1 and 2 of time point ``k``: the pieces, the blocks they lie in, and which are one object."""
        maker, op = self.segmenter.maker(part, flat=self.flat), self.segmenter.op(part)
        source, through = part, op
        kept: Target | None = None
        if maker.flat:
            blocks = blocks_of(part, op, self.size, maker.context)
            kept = Target(self._maps_volume(maker, blocks), self.time(k)) if self.maps else None
        else:
            size = self._maps_size(op)
            kept = Target(self._maps_volume(maker, blocks_of(part, op, size)), self.time(k))
            predict_maps(part, op, kept, size=size, executor=crew, ledger=self._ledger("maps", k))
            source, through = Part(kept.volume, Box.of(part.box.shape), kept.time), Stored()
            blocks = blocks_of(source, through, self._deep, maker.context)
        pieces = Target(self._volume(f"pieces-{k}", Box.of(part.box.shape), "zyx", "int32", blocks.size))
        tables = self.scratch / f"tables-{k}"
        tables.mkdir(exist_ok=True)
        wanted = kept if maker.flat else None
        job = PiecesJob(source, through, maker, pieces, tables, wanted)
        run(job, blocks, label="making instances", ledger=self._ledger("pieces", k), executor=crew)
        return pieces, blocks, join(maker.method, blocks, pieces, tables, self.scratch / f"objects-{k}.npz")

    def _maps_size(self, op: SpaceOp) -> tuple[int, int, int]:
        """Blocks of volumes are twice the context wide at least, or most of what is computed would be context."""
        if self.segmenter.net.ndim == 2:
            return _PLANES
        z, y, x = (max(n, 2 * c) for n, c in zip(self.size, op.context, strict=True))
        return z, y, x

    @property
    def _deep(self) -> tuple[int, ...]:
        """Blocks in which the instances of volumes are made, no larger than was asked for."""
        return tuple(min(d, n) for d, n in zip(_DEEP, (max(self.size),) * 3, strict=True))

    def _maps_volume(self, maker: Maker, blocks: Cover) -> Volume:
        """Where the maps go: to their place, or on the way, if the format cannot hold them block by block or nobody wants them."""
        names = maker.names
        if self.maps and self.paths.format != "png":
            return self._once(
                "maps",
                self.paths.maps,
                lambda: files.create_maps(
                    self.item, self.paths.maps, self.paths.format, names, self._facts, blocks.size
                ),
            )
        path = str(self.scratch / "maps.ome.zarr")
        return self._once("maps", path, lambda: files.create_maps(self.item, path, "ome-zarr", names, {}, blocks.size))

    def _labels_volume(self, dtype: np.dtype[Any], cut: Cover) -> Volume:
        if files.is_picture(self.item, self.paths.format):
            path = str(self.scratch / "labels.ome.zarr")
            scratch = files.Paths("ome-zarr", path, "", Path())
            return self._once("labels", path, lambda: files.create_labels(self.item, scratch, dtype, {}, cut.size))
        return self._once(
            "labels", self.labels_path, lambda: files.create_labels(self.item, self.paths, dtype, self._facts, cut.size)
        )

    @property
    def labels_path(self) -> str:
        """What to open for the instances: sections in PNG are a folder."""
        path = self.paths.labels
        if files.is_picture(self.item, self.paths.format):
            return path
        return str(Path(path).with_suffix("")) if self.paths.format == "png" else path

    def _export(self, labels: Volume) -> None:
        """What is written at once, from what was filled block by block."""
        if files.is_picture(self.item, self.paths.format):
            files.write_picture(self.paths.labels, labels.read(labels.box))
        if self.maps and self.paths.format == "png":
            found = open_volume(self.scratch / "maps.ome.zarr")
            whole = Box.of(self.item.shape)
            for k, name in enumerate(found.meta.channel_names):
                files.write_grey(Path(self.paths.maps), name, Part(found, whole, None, (k,)).read(whole)[0])

    def _render_size(self, cut: Cover, out: Volume) -> tuple[int, ...]:
        """Blocks of the output: those of the pieces, or whole sections where a file holds one."""
        if self.labels_path != self.paths.labels:
            return (1, *cut.box.shape[1:])
        return cut.size

    def _volume(self, name: str, box: Box, axes: str, dtype: str, chunk: tuple[int, ...]) -> Volume:
        path = self.scratch / f"{name}.zarr"
        chunk = tuple(min(c, n) for c, n in zip(chunk, box.shape, strict=True))
        return self._once(
            name,
            str(path),
            lambda: create_volume(path, box=box, dtype=dtype, meta=Meta.plain(axes), chunk=chunk, overwrite=True)[0],
        )

    def _once(self, name: str, path: str, create: Any) -> Volume:
        """The volume at ``path``, created if that was not done before a kill."""
        mark = self.scratch / f"{name}.created"
        if not mark.exists():
            create()
            mark.touch()
        return open_volume(path, writable=True)

    @property
    def _facts(self) -> dict[str, Any]:
        return files.with_facts(self.facts, self.item)

    def _ledger(self, stage: str, k: int) -> Path:
        return self.scratch / f"{stage}-{k}.ledger"

    def time(self, k: int) -> int | None:
        """Place of time point ``k`` in the outputs."""
        return k if "t" in self.item.volume.meta.axes else None
