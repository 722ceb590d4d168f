"""Validate: every candidate on every sample, at every threshold; tables, volumes and a page.

```
OUT/
    validation.json             what was asked, the best rows, how it was made
    metrics.csv                 a row for each checkpoint, sample and threshold
    means.csv                   a row for each checkpoint and threshold: means over samples
    best.csv                    of each checkpoint the best row of means.csv, the best first
    merges/CHECKPOINT/SAMPLE.csv    which objects merged at which score
    samples/CHECKPOINT/SAMPLE/  raw, affinities (or classes), boundaries, seeds, fragments, truth, segmentation_0.50 ...: OME-Zarr
    report.html                 VOI against the threshold, tables, pictures
```

What is scored is recorded beside OUT, and a command that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Unfinished
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json, write_text
from lamella.core.progress import Meter, progress
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text, finite
from lamella.data.labelled_image import LabelledImage
from lamella.io import create_volume
from lamella.ops.instances.fragments import Fragments
from lamella.recipe.validate.candidates import Candidate, Stored
from lamella.recipe.validate.samples import Sample, open_images, samples_of
from lamella.recipe.validate.score import (
    at_thresholds,
    foreground_of,
    fragments_of,
    method_of,
    named_maps,
    segmentation_name,
)
from lamella.recipe.validate.settings import ValidateSettings
from lamella.recipe.validate.tables import Validation

RECORD = "validation.json"


@dataclass(frozen=True)
class Work:
    """What all samples share."""

    out: Path
    settings: ValidateSettings
    method: Any
    facts: Mapping[str, Any]

    def volumes(self, candidate: Candidate, sample: Sample) -> Path:
        return self.out / "samples" / candidate.name / sample.name

    def merges(self, candidate: Candidate, sample: Sample) -> Path:
        return self.out / "merges" / candidate.name / f"{sample.name}.csv"


def validate(
    candidates: Sequence[Candidate],
    source: str,
    out: Path,
    settings: ValidateSettings,
    words: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Validation:
    """Score ``candidates`` on the labelled images at ``source``; ``words`` are fields of the method, ``facts`` are recorded.

    Raises UserError before anything is written for images without labels, axes that do not fit, and methods that the maps are not
    enough for.
    """
    first = candidates[0]
    images = open_images(source, first.ndim, first.slices, settings)
    fitting: list[Candidate] = [c.of(images) if isinstance(c, Stored) else c for c in candidates]
    method = _checked(fitting, images, words or {}, settings)
    asked = {"settings": settings.to_dict(), "method": method.to_dict(), "source": source}
    work = Work(out, settings, method, {**provenance(**asked), **(facts or {})})
    unfinished = _begin(work, fitting, images, overwrite)
    rows = _score_all(work, fitting, images, unfinished.folder)
    found = Validation(tuple(rows), settings)
    _write(work, found, fitting)
    unfinished.finish()
    return found


def _checked(
    candidates: Sequence[Candidate],
    images: Sequence[LabelledImage],
    words: Mapping[str, Any],
    settings: ValidateSettings,
) -> Any:
    """The method, once everything fits to it."""
    first = candidates[0]
    method = method_of(first.target, first.channel_names, first.offsets, words, settings)
    for candidate in candidates:
        if candidate.target == "classes":
            foreground_of(candidate.channel_names, settings)
        for image in images:
            candidate.check(image)
    return method


def _begin(work: Work, candidates: Sequence[Candidate], images: Sequence[LabelledImage], overwrite: bool) -> Unfinished:
    out = work.out
    exists = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if exists and overwrite and not (out / RECORD).exists():
        raise UserError(
            f"{out} is not overwritten, since it holds no {RECORD} that would tell it is lamella's; choose another"
        )
    plan = {
        "candidates": [[c.name, c.identity()] for c in candidates],
        "images": [[i.name, i.opened.image.volume.path, i.opened.labels.volume.path] for i in images],
        "settings": work.settings.to_dict(),
        "method": work.method.to_dict(),
    }
    unfinished = Unfinished.begin(out, plan, exists=exists, overwrite=overwrite)
    if not unfinished.created:
        with unfinished.creating():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            write_json(out / RECORD, dict(work.facts))
    (unfinished.folder / "rows").mkdir(exist_ok=True)
    return unfinished


def _score_all(
    work: Work, candidates: Sequence[Candidate], images: Sequence[LabelledImage], folder: Path
) -> list[dict[str, Any]]:
    """The rows of all samples; those that are recorded in ``folder`` are read."""
    rows: list[dict[str, Any]] = []
    samples = [samples_of(image, candidates[0].ndim) for image in images]
    with progress("validating", len(candidates) * sum(map(len, samples)), "samples") as meter:
        for k, candidate in enumerate(candidates):
            count = 0
            for image, mine in zip(images, samples, strict=True):
                files = [folder / "rows" / f"{k}_{count + n}.json" for n in range(len(mine))]
                _score_image(
                    work, candidate, image, list(zip(range(count, count + len(mine)), mine, files, strict=True)), meter
                )
                rows += [row for file in files for row in json.loads(file.read_text())]
                count += len(mine)
    return rows


def _score_image(
    work: Work,
    candidate: Candidate,
    image: LabelledImage,
    samples: Sequence[tuple[int, Sample, Path]],
    meter: Meter,
) -> None:
    """Score the samples of an image that are not recorded yet; its maps are made once."""
    left = [entry for entry in samples if not entry[2].exists()]
    meter.skip(len(samples) - len(left))
    if not left:
        return
    maps = candidate.maps(image)
    for number, sample, file in left:
        kept = work.settings.samples is None or number < work.settings.samples
        rows = _score(work, candidate, sample, sample.cut(maps), kept)
        write_json(file, finite(rows))
        meter.advance()


def _score(
    work: Work, candidate: Candidate, sample: Sample, found: NDArray[np.float32], kept: bool
) -> list[dict[str, Any]]:
    """The rows of one sample, a row for each threshold; its volumes are written if they are ``kept``."""
    truth, maps = sample.truth(), named_maps(found, candidate, work.settings)
    fragments = fragments_of(maps, work.method, sample.voxel_size)
    folder = work.volumes(candidate, sample)
    if kept:
        shutil.rmtree(folder, ignore_errors=True)
        _write_start(work, candidate, sample, found, fragments, truth)
    rows, merges = [], []
    for made in at_thresholds(maps, truth, work.method, work.settings, sample.voxel_size, fragments):
        threshold = made.row["threshold"]
        rows.append({"checkpoint": candidate.name, "sample": sample.name, **made.row})
        merges += [{"threshold": threshold, **vars(merge)} for merge in made.merges]
        if kept:
            _volume(work, sample, folder / segmentation_name(threshold), made.labels.astype(np.uint32))
    if fragments is not None:
        write_text(work.merges(candidate, sample), csv_text(merges) if merges else "threshold,a,b,c,score\n")
    return rows


def _write_start(
    work: Work,
    candidate: Candidate,
    sample: Sample,
    found: NDArray[np.float32],
    fragments: Fragments | None,
    truth: NDArray[np.int64],
) -> None:
    """What objects are made of and compared with; in the truth 0 also where nothing counts, as ``counts`` tells."""
    folder = work.volumes(candidate, sample)
    raw = sample.raw()
    _volume(work, sample, folder / "raw", raw if raw.dtype != bool else raw.astype(np.uint8))
    _volume(work, sample, folder / candidate.target, found, candidate.channel_names)
    _volume(work, sample, folder / "truth", np.maximum(truth, 0).astype(np.uint32))
    if (truth < 0).any():
        _volume(work, sample, folder / "counts", (truth >= 0).astype(np.uint8))
    if fragments is not None:
        _volume(work, sample, folder / "boundaries", fragments.boundaries)
        _volume(work, sample, folder / "distance", fragments.distance)
        _volume(work, sample, folder / "seeds", fragments.seeds.astype(np.uint32))
        _volume(work, sample, folder / "fragments", fragments.labels.astype(np.uint32))


def _volume(work: Work, sample: Sample, path: Path, array: NDArray[Any], channels: Sequence[str] = ()) -> None:
    many = array.ndim > len(sample.axes)
    meta = sample.meta(channels=channels, many=many, **work.facts)
    (volume,) = create_volume(f"{path}.ome.zarr", box=Box.of(array.shape), dtype=array.dtype, meta=meta, overwrite=True)
    volume.write(volume.box, array)


def _write(work: Work, found: Validation, candidates: Sequence[Candidate]) -> None:
    from lamella.recipe.validate.report import write_report

    write_text(work.out / "metrics.csv", csv_text(found.rows))
    write_text(work.out / "means.csv", csv_text(found.means()))
    write_text(work.out / "best.csv", csv_text(found.best()))
    write_report(found, work, candidates)
    write_json(work.out / RECORD, {**work.facts, "best": finite(found.best())})
