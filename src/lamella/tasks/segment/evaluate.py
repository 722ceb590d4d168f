"""Evaluate instances: predicted labels against true ones, image by image, by size of the objects, and object by object.

Figures come in two kinds: ``_img`` are means over images, in which a crowded image counts as much as an empty one; ``_pool`` are
counted over the objects of all images. An image without any object, true or predicted, has an AP of 0, as the benchmarks have it;
``images_without_objects`` tells how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from lamella.blockwise import Executor, Unfinished
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_json, write_text
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text, finite
from lamella.ops.matching import Overlaps
from lamella.ops.matching_partition import partition_figures
from lamella.ops.matching_scores import THRESHOLDS, ObjectScores, compare, match
from lamella.tasks.segment.evaluate_count import count_overlaps, refuse_masks
from lamella.tasks.segment.evaluate_inputs import Subject
from lamella.tasks.segment.evaluate_objects import ObjectTable, Outcome
from lamella.tasks.segment.evaluate_settings import InstanceSettings
from lamella.tasks.segment.evaluate_sizes import SizeClasses

_OBJECTS = ("precision", "recall", "PQ", "SQ", "RQ", "SEG", "SEG_ctc", "dice_objects", "dice_pixels")


@dataclass(frozen=True)
class ImageScores:
    """What one image scored."""

    subject: Subject
    objects: ObjectScores
    partition: dict[str, float]
    outcome: Outcome

    def row(self) -> dict[str, Any]:
        """Its figures, for a table."""
        return {"image": self.subject.name, **self.objects.figures(), **self.partition}


@dataclass(frozen=True)
class Baseline:
    """Another evaluation of the same images: its figures and classes of size."""

    path: str
    figures: dict[str, Any]
    sizes: SizeClasses

    @classmethod
    def load(cls, folder: str) -> Baseline:
        """What ``lamella evaluate instances`` wrote to ``folder``."""
        try:
            stored = json.loads((Path(folder) / "scores.json").read_text())
            sizes = SizeClasses(tuple(stored["size_classes"]["edges"]), stored["size_classes"]["rows"])
            return cls(folder, stored["figures"], sizes)
        except (OSError, ValueError, KeyError):
            raise UserError(
                f"baseline {folder} holds no scores of instances; give a folder that lamella evaluate instances wrote"
            ) from None


@dataclass(frozen=True)
class InstanceEvaluation:
    """All scores of some images."""

    images: list[ImageScores]
    sizes: SizeClasses
    settings: InstanceSettings
    baseline: Baseline | None = None

    @cached_property
    def pooled(self) -> ObjectScores:
        return reduce(add, (image.objects for image in self.images))

    def size_rows(self) -> list[dict[str, Any]]:
        """The classes of size, beside those of the baseline if there is one."""
        return self.sizes.rows if self.baseline is None else self.sizes.beside(self.baseline.sizes)

    def figures(self) -> dict[str, Any]:
        """The figures by which methods are compared, named as in the literature."""
        per = np.array([image.objects.ap for image in self.images])
        pooled = self.pooled.figures()
        empty = sum(not image.objects.counts[0].any() for image in self.images)
        return {
            "AP50_img": float(per[:, 0].mean()),
            "AP50_pool": pooled["AP50"],
            "mAP_img": float(per.mean()),
            "mAP_pool": pooled["mAP"],
            "AP75_img": float(per[:, 5].mean()),
            "AP75_pool": pooled["AP75"],
            "F1_50": pooled["F1"],
            **{name: pooled[name] for name in _OBJECTS},
            **{name: _mean(image.partition[name] for image in self.images) for name in self.images[0].partition},
            "true": pooled["true"],
            "predicted": pooled["predicted"],
            "images": len(self.images),
            "images_without_objects": empty,
        }

    def curves(self) -> dict[str, list[float]]:
        """AP over the thresholds, both kinds."""
        per = np.array([image.objects.ap for image in self.images])
        return {
            "threshold": THRESHOLDS.tolist(),
            "AP_img": per.mean(axis=0).tolist(),
            "AP_pool": self.pooled.ap.tolist(),
        }

    def worst(self) -> list[ImageScores]:
        """The images by mean AP, the worst first; of equal ones that with more objects wrong."""
        return sorted(self.images, key=lambda i: (float(i.objects.ap.mean()), -len(i.outcome.wrong)))


def evaluate_instances(
    subjects: Sequence[Subject],
    out: Path,
    settings: InstanceSettings,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> InstanceEvaluation:
    """Score ``subjects`` and write ``scores.json``, ``images.csv`` and ``objects.csv`` to ``out``.

    An evaluation that was killed goes on from the blocks that are counted.
    """
    baseline = None if settings.baseline is None else Baseline.load(settings.baseline)
    refuse_masks(subjects, settings.ignored, components=settings.components)
    target = out / "scores.json"
    paths = [[layer.volume.path for layer in (s.true, s.predicted)] for s in subjects]
    names = [s.name for s in subjects]
    plan = {"images": names, "paths": paths, "ignore": settings.ignored, "components": settings.components}
    work = Unfinished.begin(target, plan, exists=target.exists(), overwrite=overwrite)
    overlaps = count_overlaps(
        subjects, work.folder / "parts", ignore=settings.ignored, components=settings.components, executor=executor
    )
    with replacing(out / "objects.csv") as beside, open(beside, "w", newline="") as file:
        table = ObjectTable(file)
        images = [_score(s, o, settings, table) for s, o in zip(subjects, overlaps, strict=True)]
    edges = settings.edges or (() if baseline is None else baseline.sizes.edges)
    sizes = SizeClasses.of([image.outcome for image in images], edges)
    found = InstanceEvaluation(images, sizes, settings, baseline)
    found.size_rows()  # a baseline of other images is refused before anything is written
    _write(found, out)
    work.finish()
    return found


def _score(subject: Subject, overlaps: Overlaps, settings: InstanceSettings, table: ObjectTable) -> ImageScores:
    found = compare(overlaps, drop_border=settings.drop_border)
    pairs = match(found, settings.threshold, settings.matching)
    table.add(subject.name, overlaps, found, pairs)
    scores = ObjectScores.of(found, settings.matching)
    return ImageScores(subject, scores, partition_figures(overlaps), Outcome.of(found, pairs))


def _write(found: InstanceEvaluation, out: Path) -> None:
    write_text(out / "images.csv", csv_text([image.row() for image in found.images]))
    record = {
        "figures": found.figures(),
        "curves": found.curves(),
        "size_classes": {"edges": found.sizes.edges, "rows": found.sizes.rows},
        "worst": [image.subject.name for image in found.worst()[: found.settings.worst]],
        "provenance": provenance(settings=found.settings.to_dict()),
    }
    if found.baseline is not None:
        record["against_baseline"] = {"path": found.baseline.path, "size_classes": found.size_rows()}
    write_json(out / "scores.json", finite(record))


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")
