"""Show a volume as an alignment's fields move it: the source at a finer mip, or labels, masks and other images on its voxels.

At the mip that was aligned this gives what the alignment wrote, to the byte. Sections are done block by block, each as fine as it is
written; what is between the fields' pixels is interpolated as in aligning, and every voxel is looked up in the source once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from lamella.blockwise import Block, Cover, Executor, Report, cover, run
from lamella.blockwise.unfinished import folder_beside
from lamella.core.box import Box, parse_box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.io import create_volume, open_volume
from lamella.prep.convert import MAYBE_LABELS, begin
from lamella.prep.picked import pick
from lamella.tasks.align.applied import Applied, Kept
from lamella.tasks.align.masked import carried
from lamella.tasks.align.render_settings import RenderSettings
from lamella.tasks.align.resample import nearest, read_plane, resample
from lamella.tasks.align.stages import Field
from lamella.tasks.align.volume import ENDINGS, check_grey, check_output

_SIDE = 1024  # of blocks and chunks; a block of grey values takes some 200 MiB meanwhile


@dataclass(frozen=True)
class Show:
    """Writes one block of a section as the fields show it. The section that stayed where it was, ``anchor``, is copied if it is grey."""

    applied: Applied
    out: Volume
    kind: Literal["images", "labels", "masks"]
    anchor: int

    def blocks(self) -> Cover:
        return cover(self.out.box, (1, _SIDE, _SIDE), align=self.out.chunk, origin=self.out.box.start)

    def read(self, block: Block) -> tuple[Box, Field]:
        return self.applied.read(block.write.start[0], _plane(block.write))

    def compute(self, block: Block, data: tuple[Box, Field]) -> NDArray[Any]:
        z, plane, source = block.write.start[0], _plane(block.write), self.applied.source
        if z == self.anchor and self.kind == "images":
            return read_plane(source, z, plane)[None]
        field = self.applied.dense(plane, data)
        if self.kind == "images":
            return resample(source, z, plane, field)[None]
        return (nearest if self.kind == "labels" else carried)(source, z, plane, field)[None]

    def write(self, block: Block, result: NDArray[Any]) -> None:
        self.out.write(block.write, result)


def render(
    fields: str,
    source: str,
    out: str,
    settings: RenderSettings | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Report:
    """Write ``source``, moved by the ``fields`` of an alignment, to ``out``: all that was aligned, at the mip that ``settings`` name.

    Voxel size, coordinates and type are the source's (masks become uint8); how it was made is stored, that of the fields included. A job
    that was killed goes on when it is repeated, and ends with the same bytes. Raises UserError before anything is written for what is
    no field of an alignment, for one that is unfinished, for a source that it was not made on, and for an output that exists.
    """
    settings = settings or RenderSettings()
    kept = Kept.open(fields)
    _check_finished(fields)
    volume = _opened(source, settings, settings.mip)
    _check_values(volume, settings)
    applied = kept.on(volume, settings.coarse)
    if settings.kind == "images" and not settings.other:
        _check_source(kept, source, settings)
    box = parse_box(settings.bbox, applied.box) if settings.bbox else applied.box
    check_output(out, source)
    check_output(out, fields, "the fields")
    facts = {"source": volume.path, "fields": kept.volume.path, "box": str(box), "settings": settings.to_dict()}
    plan = {**facts, "source_box": str(volume.box), "fields_made": _digest(kept.made)}
    work = begin(source, out, plan, overwrite)
    if not work.created:
        with work.creating():
            _create(
                out, volume, box, settings, provenance(**facts, mip=settings.mip, fields_provenance=dict(kept.made))
            )
    job = Show(applied, open_volume(out, writable=True), settings.kind, kept.box.start[0])
    label = f"rendering {box.shape[0]} sections"
    report = run(job, job.blocks(), label=label, ledger=work.ledger("render"), executor=executor)
    work.finish()
    return report


def _opened(source: str, settings: RenderSettings, mip: int) -> Volume:
    return pick(open_volume(source, mip=mip, dataset=settings.dataset), "c", settings.channel, "channel")


def _check_finished(fields: str) -> None:
    """Refuse fields whose alignment lies unfinished beside them."""
    name = fields.rstrip("/").removesuffix(".fields.ome.zarr")
    begun = next((name + end for end in ("", *ENDINGS) if folder_beside(name + end).exists()), None)
    if begun is not None:
        raise UserError(
            f"fields {fields} are unfinished, as the alignment {begun} is; run its command again to finish it"
        )


def _check_values(volume: Volume, settings: RenderSettings) -> None:
    whole = volume.dtype.kind in "uib"
    if settings.kind != "images":
        if not whole:
            raise UserError(f"{volume.path} holds {volume.dtype}; {settings.kind} must be whole numbers")
    elif settings.labels is None and volume.dtype.name in MAYBE_LABELS:
        raise UserError(
            f"{volume.path} holds {volume.dtype}, which is moved otherwise as labels than as an image; say --labels, --masks, or "
            "--no-labels for an image"
        )
    else:
        check_grey(volume)


def _check_source(kept: Kept, source: str, settings: RenderSettings) -> None:
    """Refuse images that are not those that were aligned, as far as the mip that was aligned can tell."""
    try:
        aligned = _opened(source, settings, kept.mip)
    except UserError:
        aligned = None
    if aligned is None or not kept.is_of(aligned):
        has = "has no such mip" if aligned is None else "holds other voxels there"
        raise UserError(
            f"fields {kept.volume.path} were made on {kept.made['source']} at mip {kept.mip}, and {source} {has}; give the volume that was "
            "aligned, or say what else it is on the same voxels: --labels, --masks, or --other for other images"
        )


def _create(out: str, source: Volume, box: Box, settings: RenderSettings, made: dict[str, Any]) -> None:
    dtype = "uint8" if settings.kind == "masks" else source.dtype
    chunk = (1, *(min(_SIDE, n) for n in box.shape[1:]))
    create_volume(out, box=box, dtype=dtype, meta=replace(source.meta, provenance=made), chunk=chunk, overwrite=True)


def _digest(made: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _plane(box: Box) -> Box:
    return Box(box.start[1:], box.stop[1:])
