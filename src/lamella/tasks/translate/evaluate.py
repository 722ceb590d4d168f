"""Evaluate predicted images: errors, correlation and structural similarity against the truth, plane by plane.

```
OUT/metrics_xy.csv     a row for each slice: position, channel, time, z, every metric; with masks also METRIC_masked and vol_frac
OUT/metrics_xyz.csv    a row for each stack; likewise metrics_xz.csv (a row for each y) and metrics_yz.csv (for each x)
OUT/scores.json        means and medians of each orientation and channel, how it was made
OUT/panels/            input, truth, prediction and overlay of the worst slices; stacks in three cuts
OUT/report.html        all of it on one page, the worst first
```

A figure that is not defined (no contrast in the truth, a plane smaller than a window) is left empty and counts in no mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lamella.blockwise import Executor, Unfinished
from lamella.core.files import write_json, write_text
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text, finite
from lamella.ops.image_metrics import ERRORS, PLANE_AXIS, Orientation
from lamella.ops.image_scores import Comparison
from lamella.tasks.translate.evaluate_count import Scale, SumTiles, count, percentile_scales
from lamella.tasks.translate.evaluate_layers import Subject, Subjects
from lamella.tasks.translate.evaluate_settings import ImageSettings

Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """One plane (or stack) of one subject; ``plane`` counts from the subject's first."""

    subject: Subject
    orientation: Orientation
    plane: int
    row: Row

    @property
    def name(self) -> str:
        axis = PLANE_AXIS[self.orientation]
        at = "" if axis is None else f"{'zyx'[axis]}{self.row['zyx'[axis]]:03d}"
        return " ".join(part for part in (self.subject.name, at) if part)


@dataclass(frozen=True)
class ImageEvaluation:
    """All scores; ``scales`` is how the intensities of each channel are seen."""

    subjects: Subjects
    settings: ImageSettings
    scored: dict[Orientation, list[Scored]]
    scales: dict[str, Scale]
    ranges: dict[str, float]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all figures of a row."""
        masked = any(subject.mask is not None for subject in self.subjects.items)
        own = tuple(self.settings.metrics)
        return (*own, *(f"{name}_masked" for name in own), "vol_frac") if masked else own

    @cached_property
    def figures(self) -> list[Row]:
        """For each orientation and channel the mean of every metric, the median of the one to sort by, and counts."""
        found = []
        for orientation, scored in self.scored.items():
            for channel in dict.fromkeys(s.subject.channel for s in scored):
                rows = [s.row for s in scored if s.subject.channel == channel]
                means = {name: _mean([row[name] for row in rows]) for name in self.metrics}
                found.append({"orientation": orientation, "channel": channel, **means, "planes": len(rows)})
        return found

    def by_error(self, orientation: Orientation) -> list[Scored]:
        """All planes of an orientation, the worst first; those without a figure last."""
        order = self.settings.order
        sign = -1 if order in ERRORS else 1
        values = [s.row[order] for s in self.scored[orientation]]
        keys = [float("inf") if np.isnan(v) else sign * v for v in values]
        return [self.scored[orientation][k] for k in np.argsort(keys, kind="stable")]

    @property
    def undefined(self) -> int:
        """Planes whose truth has no contrast, or which are smaller than a window."""
        order = self.settings.order
        return sum(bool(np.isnan(s.row[order])) for scored in self.scored.values() for s in scored)


def evaluate_images(
    subjects: Subjects, out: Path, settings: ImageSettings, *, executor: Executor | None = None, overwrite: bool = False
) -> ImageEvaluation:
    """Score ``subjects`` and write the tables and ``scores.json`` to ``out``; see the module.

    An evaluation that was killed goes on from the blocks that are done. Raises UserError for an output that exists, truths of one
    value everywhere, and voxels that are no numbers.
    """
    target = out / "scores.json"
    work = Unfinished.begin(target, _plan(subjects, settings), exists=target.exists(), overwrite=overwrite)
    items = subjects.items
    if settings.ends is not None:
        scales, data_range = percentile_scales(items, settings.ends), settings.data_range or 1.0
    else:
        scales = {subject.channel: Scale() for subject in items}
        data_range = settings.data_range or (float("nan") if _needs_range(settings) else 1.0)
    how = Comparison(settings.metrics, settings.window, data_range, settings.threshold)
    job = count(items, work.folder / "parts", settings.orientations, how, scales, executor=executor)
    scored = {o: [s for k in range(len(items)) for s in _scored(job, k, o)] for o in settings.orientations}
    ranges = {channel: job.how[channel].data_range for channel in scales}
    found = ImageEvaluation(subjects, settings, scored, scales, ranges)
    _write(found, out)
    work.finish()
    return found


def _needs_range(settings: ImageSettings) -> bool:
    return bool({"ssim", "ms_ssim", "psnr"} & set(settings.metrics))


def _plan(subjects: Subjects, settings: ImageSettings) -> dict[str, Any]:
    paths = [[s.position, s.channel, s.time, s.predicted.where, s.true.where] for s in subjects.items]
    drawn = {"panels", "sort_by", "inputs"}
    return {"subjects": paths, "settings": {k: v for k, v in settings.to_dict().items() if k not in drawn}}


def _scored(job: SumTiles, index: int, orientation: Orientation) -> Iterator[Scored]:
    """The rows of one subject in one orientation."""
    subject, axis = job.subjects[index], PLANE_AXIS[orientation]
    sums = job.total(index, orientation, masked=False)
    figures = dict(sums.figures(job.how[subject.channel]))
    if subject.mask is not None:
        inside = job.total(index, orientation, masked=True)
        masked = inside.figures(job.how[subject.channel])
        figures |= {f"{name}_masked": values for name, values in masked.items()}
        figures["vol_frac"] = np.divide(
            inside["count"], sums["count"], where=sums["count"] > 0, out=np.zeros_like(sums["count"])
        )
    planes = subject.planes if orientation == "xy" else range(len(sums.values))
    for plane in planes:
        at = {} if axis is None else {"zyx"[axis]: subject.z(plane) if orientation == "xy" else plane}
        row = {"position": subject.position, "channel": subject.channel, "time": subject.time, **at}
        yield Scored(subject, orientation, plane, {**row, **{name: float(v[plane]) for name, v in figures.items()}})


def _write(found: ImageEvaluation, out: Path) -> None:
    for orientation, scored in found.scored.items():
        rows = [{k: "" if isinstance(v, float) and np.isnan(v) else v for k, v in s.row.items()} for s in scored]
        write_text(out / f"metrics_{orientation}.csv", csv_text(rows))
    record = {
        "figures": found.figures,
        "sorted_by": found.settings.order,
        "worst": [s.name for s in found.by_error(found.settings.orientations[0])[: found.settings.panels]],
        "data_range": found.ranges,
        "scales": {channel: [scale.low, scale.high] for channel, scale in found.scales.items()},
        "not_predicted": list(found.subjects.left_out),
        "provenance": provenance(settings=found.settings.to_dict()),
    }
    write_json(out / "scores.json", finite(record))


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
