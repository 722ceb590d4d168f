"""Evaluate an alignment: how well neighbouring sections fit, how far fields are from the truth, and what chance would give.

Correlation between neighbours rewards inventing motion, so it comes with a null: the same figure against an unrelated section.
The null of the *volume* (two aligned sections half a stack apart, one turned by 180°) shows what the tissue's statistics give
by chance and should be about zero. It cannot show whether the method bends tissue to fit noise; for that the method itself must
be run against an unrelated section, which happens when it is given (``estimate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamella.blockwise import Executor, Unfinished, cover, run
from lamella.core.errors import UserError
from lamella.core.files import write_json, write_text
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text, finite
from lamella.core.volume import Volume
from lamella.io import describe, open_volume
from lamella.io.coarse import open_placed
from lamella.ops.tally import Tally
from lamella.tasks.align.evaluate_settings import EvaluateSettings
from lamella.tasks.align.method_checks import Estimate, check_method
from lamella.tasks.align.scores import FieldStack, ScoreSections, SectionScores, bins_of, part

_APART = 2.0  # worst places of a section are at least this many chunks apart


@dataclass(frozen=True)
class Inputs:
    """The volumes of an evaluation. Images are (z, y, x), fields (c, z, y, x); see ``scores.FieldStack``."""

    aligned: Volume
    source: Volume | None = None
    fields: Volume | None = None
    truth: Volume | None = None

    def field_stacks(self) -> tuple[FieldStack | None, FieldStack | None]:
        """The fields and the truth, ready to read at the aligned volume's mip."""
        fields, truth = (None if v is None else FieldStack.of(v, self.aligned) for v in (self.fields, self.truth))
        return fields, truth

    def check(self) -> None:
        """Refuse volumes that do not belong together."""
        _need_axes(self.aligned, "zyx", "the aligned volume")
        if self.source is not None:
            _need_axes(self.source, "zyx", "the source")
            if self.source.box.intersect(self.aligned.box).is_empty:
                raise UserError(
                    f"source {self.source.path} has box {self.source.box}, aligned volume {self.aligned.path} "
                    f"{self.aligned.box}, which do not overlap; give the volume that was aligned"
                )
        for field, name in ((self.fields, "the fields"), (self.truth, "the truth")):
            if field is None:
                continue
            _need_axes(field, "czyx", name)
            FieldStack.of(field, self.aligned)
        if self.truth is not None and self.fields is None:
            raise UserError("a truth was given without fields to compare it with; give --fields")


def open_inputs(aligned: str, settings: EvaluateSettings) -> Inputs:
    """The volumes that ``settings`` name at its mip, the source at the mip that was aligned."""
    volume = open_volume(aligned, mip=settings.mip)
    fields, truth = (
        None if path is None else open_volume(path, mip=settings.mip) for path in (settings.fields, settings.truth)
    )
    source = None
    if settings.source is not None:
        source = open_volume(settings.source, mip=aligned_mip(settings.source, volume))
        source = source if settings.coarse is None else open_placed(settings.coarse, settings.source, source)
    return Inputs(volume, source, fields, truth)


def aligned_mip(source: str, aligned: Volume) -> int:
    """The mip of ``source`` whose voxels are as large as the aligned ones, in y and x; the only one, if there is but one."""
    open_volume(source)  # the path's own mistakes are told first
    datasets = describe(source).datasets
    mips = datasets.get("") or next(iter(datasets.values()))
    sizes = [mip.meta.voxel_size[-2:] for mip in mips]
    wanted = aligned.meta.voxel_size[-2:]
    fitting = [k for k, size in enumerate(sizes) if np.allclose(size, wanted)]
    if not fitting and len(mips) > 1:
        raise UserError(
            f"voxels of {aligned.path} are {_size(wanted)} (y x), those of the mips of {source} "
            f"{', '.join(map(_size, sizes))}; give the volume that was aligned"
        )
    return fitting[0] if fitting else 0


def _size(lengths: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in lengths)


@dataclass(frozen=True)
class Evaluation:
    """All scores: one ``SectionScores`` per section, their sums by name, worst places, and the method's own checks."""

    sections: list[SectionScores]
    totals: dict[str, Tally]
    worst: list[dict[str, Any]]
    worst_endpoint: list[dict[str, Any]]
    method: dict[str, Any] | None
    chunks: tuple[int, ...]

    @property
    def folded_percent(self) -> float | None:
        moved = sum(s.moved for s in self.sections)
        return 100 * sum(s.folded for s in self.sections) / moved if moved else None

    def summary(self) -> dict[str, Any]:
        """Plain values: every tally's figures, net correlation per chunk, folds, and the method's checks."""
        figures: dict[str, Any] = {name: tally.summary() for name, tally in self.totals.items()}
        for chunk in self.chunks:
            after, null = (self.totals.get(f"{name} {chunk}") for name in ("after", "null"))
            if after is not None and null is not None:
                figures[f"net {chunk}"] = {"mean": after.mean - null.mean}
        return {"figures": figures, "folded_percent": self.folded_percent, "method": self.method}

    def brief(self) -> dict[str, Any]:
        """The few values by which runs are compared."""
        chunk = self.chunks[len(self.chunks) // 2]
        values: dict[str, Any] = {
            f"{name}_{chunk}": self.totals[f"{name} {chunk}"].mean
            for name in ("before", "after", "null")
            if f"{name} {chunk}" in self.totals
        }
        if "endpoint" in self.totals:
            values["endpoint"] = {f"p{q}": self.totals["endpoint"].percentile(q) for q in (50, 95)}
        if self.method is not None:
            tried = self.method["forward_backward"]
            values["method"] = {key: self.method[key] for key in ("after", "null", "net")}
            values["method"]["forward_backward"] = {q: tried[q] for q in ("p50", "p95")}
        return finite({**values, "folded_percent": self.folded_percent})

    def rows(self) -> list[dict[str, Any]]:
        """One row per section, for CSV and charts."""
        return [_row(s) for s in self.sections]


def evaluate_alignment(
    inputs: Inputs,
    out: Path,
    *,
    chunks: Sequence[int] = (12, 32, 64),
    border: int = 0,
    estimate: Estimate | None = None,
    samples: int = 6,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Score ``inputs`` and write ``scores.json``, ``sections.csv`` and ``worst.csv`` to ``out``.

    ``border`` px at the edge of every section are left out. With ``estimate``, the method is run again on ``samples`` pairs of
    neighbouring sections, both ways and against unrelated ones. An evaluation that was killed goes on from the scored sections.
    """
    inputs.check()
    chunks = _check_chunks(chunks, border, inputs.aligned)
    target = out / "scores.json"
    volumes = {name: v.path for name, v in vars(inputs).items() if v is not None}
    plan = {**volumes, "box": str(inputs.aligned.box), "chunks": chunks, "border": border}
    work = Unfinished.begin(target, plan, exists=target.exists(), overwrite=overwrite)
    sections = _score_sections(inputs, chunks, border, work.folder / "parts", executor)
    method = None
    if estimate is not None:
        source = inputs.source or inputs.aligned
        part = source.box.intersect(inputs.aligned.box)
        method = check_method(source, part, estimate, samples, chunks[len(chunks) // 2])
    found = _gather(sections, chunks, method)
    _write(found, inputs, out, border)
    work.finish()
    return found


def _need_axes(volume: Volume, axes: str, name: str) -> None:
    if "".join(volume.meta.axes) != axes:
        raise UserError(
            f"{name} {volume.path} has axes {' '.join(volume.meta.axes)}; it needs {' '.join(axes)}; "
            "choose a volume, or a data set of it, with those axes"
        )


def _check_chunks(chunks: Sequence[int], border: int, aligned: Volume) -> tuple[int, ...]:
    room = min(aligned.box.shape[1:]) - 2 * border
    if not chunks or min(chunks) < 4 or max(chunks) > room:
        raise UserError(
            f"chunks {list(chunks)} must be whole numbers from 4 to {room}, the sections' size less the border; "
            "give for example --chunk 12,32,64"
        )
    return tuple(sorted(set(chunks)))


def _score_sections(
    inputs: Inputs, chunks: tuple[int, ...], border: int, parts: Path, executor: Executor | None
) -> list[SectionScores]:
    box = inputs.aligned.box
    blocks = cover(box, (1, *box.shape[1:]), bounds=box)
    fields, truth = inputs.field_stacks()
    job = ScoreSections(inputs.aligned, inputs.source, fields, truth, chunks, border, parts)
    parts.mkdir(parents=True, exist_ok=True)
    run(job, blocks, label="scoring sections", ledger=parts / "ledger", executor=executor)
    return [SectionScores.load(part(parts, block.index)) for block in blocks]


def _gather(sections: list[SectionScores], chunks: tuple[int, ...], method: dict[str, Any] | None) -> Evaluation:
    names = dict.fromkeys(name for s in sections for name in s.tallies)
    totals = {name: Tally.empty(bins_of(name)) for name in names}
    for section in sections:
        for name, tally in section.tallies.items():
            totals[name] += tally
    apart = _APART * chunks[-1]
    worst = _worst_places(sections, "worst", "correlation", apart)
    endpoint = _worst_places(sections, "worst endpoint", "error_px", apart, largest=True)
    return Evaluation(sections, totals, worst, endpoint, method, chunks)


def _worst_places(
    sections: list[SectionScores], name: str, score: str, apart: float, largest: bool = False, count: int = 12
) -> list[dict[str, Any]]:
    """The worst chunks of all sections, no two of a section close together."""
    found = [(s.z, *row) for s in sections for row in s.worst.get(name, np.zeros((0, 4)))]
    found.sort(key=lambda place: -place[3] if largest else place[3])
    kept: list[tuple[float, ...]] = []
    for place in found:
        near = (k for k in kept if k[0] == place[0] and np.hypot(k[1] - place[1], k[2] - place[2]) < apart)
        if not any(near) and len(kept) < count:
            kept.append(place)
    return [
        {"z": int(z), "y": int(y), "x": int(x), score: float(v), f"{score}_before": float(b)} for z, y, x, v, b in kept
    ]


def _row(section: SectionScores) -> dict[str, Any]:
    row: dict[str, Any] = {
        "z": section.z,
        "previous": section.previous,
        "missing_percent": 100 * section.missing,
    }
    for name, tally in section.tallies.items():
        key = name.replace(" ", "_")
        row |= {f"{key}_{figure}": value for figure, value in tally.summary().items() if figure != "variance"}
    if section.moved:
        row["folded_percent"] = 100 * section.folded / section.moved
    return row


def _write(found: Evaluation, inputs: Inputs, out: Path, border: int) -> None:
    volumes = {name: v.path for name, v in vars(inputs).items() if v is not None}
    write_text(out / "sections.csv", csv_text(found.rows()))
    write_text(out / "worst.csv", csv_text([*found.worst, *found.worst_endpoint]))
    record = {
        **found.summary(),
        "chunks": found.chunks,
        "border": border,
        "worst": found.worst,
        "worst_endpoint": found.worst_endpoint,
        "sections": found.rows(),
        "provenance": provenance(**volumes),
    }
    write_json(out / "scores.json", finite(record))
