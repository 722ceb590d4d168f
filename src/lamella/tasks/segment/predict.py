"""Predict images of any number and size: maps, instances, previews, in a folder or a file that goes on after a kill.

Images that fit in one block are done side by side, each in one go; larger ones follow one after the other, block by block. What
is done is recorded (see ``blockwise``), and a killed job that is started again ends with the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Crew, Executor, Unfinished, run
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.provenance import provenance
from lamella.data.inputs import Images, Item, attempt
from lamella.infer.maps import Target
from lamella.io import open_volume
from lamella.tasks.segment import predict_files as files
from lamella.tasks.segment.predict_large import Large
from lamella.tasks.segment.predict_page import preview_of, preview_whole, write_page, write_preview
from lamella.tasks.segment.predict_settings import PredictSettings
from lamella.tasks.segment.predictor import Segmenter

RECORD = "predict.json"


@dataclass(frozen=True)
class Predicted:
    """What came of it: a row for each image (name, image, labels, objects, ...), and one line for each that was left out."""

    rows: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...]
    page: Path | None


@dataclass(frozen=True)
class Prediction:
    """What all images share."""

    out: str
    segmenter: Segmenter
    settings: PredictSettings
    facts: dict[str, Any]
    single: bool

    def paths(self, item: Item) -> files.Paths:
        return files.paths_of(item, self.out, self.settings.format, self.single)

    @property
    def size(self) -> tuple[int, int, int]:
        return self.settings.size(self.segmenter.net.ndim)

    def is_small(self, item: Item) -> bool:
        """Whether an image goes through in one piece."""
        if self.segmenter.takes_whole:
            return True
        fits = prod(item.shape) <= prod(self.size) and max(item.shape) <= 2 * max(self.size)
        return fits and len(item.parts) == 1

    def record(self, item: Item, count: int) -> dict[str, Any]:
        """The row of an image."""
        paths = self.paths(item)
        row = {
            "name": item.name,
            "image": item.path,
            "labels": paths.labels,
            "objects": count,
            "size": " x ".join(str(n) for n in item.shape if n > 1 or len(item.shape) < 3),
            **files.own_meta(item),
        }
        folder = Path(self.out).parent if self.single else Path(self.out)
        if self.settings.plot:
            row["preview"] = str(paths.preview.relative_to(folder))
        return row


def predict_images(
    images: Images,
    out: str,
    segmenter: Segmenter,
    settings: PredictSettings,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Predicted:
    """Predict ``images`` into the folder ``out``, or, if there is one and ``out`` ends in .png, .tif or .zarr, into that file.

    ``facts`` (run, checkpoint, recipe) are stored with the results. Raises UserError for an output that exists, for one that is
    no folder of predictions, and for what is wrong with an image, unless ``settings.skip_bad``.
    """
    single = _is_single(images, out, settings)
    made = provenance(segmenter=segmenter.identity(), settings=settings.to_dict(), **(facts or {}))
    prediction = Prediction(out, segmenter, settings, made, single)
    _check_outputs(images, prediction)
    work = _begin(images, prediction, overwrite)
    rows = work.folder / "rows"
    rows.mkdir(exist_ok=True)
    left_out = list(images.left_out)
    with Crew(executor or Executor()) as crew:
        _do_small(images.items, prediction, rows, work, crew)
        _do_large(images.items, prediction, rows, work, crew)
    found = [
        json.loads((rows / f"{k}.json").read_text()) for k in range(len(images.items)) if (rows / f"{k}.json").exists()
    ]
    left_out += [row["problem"] for row in found if "problem" in row]
    done = tuple(row for row in found if "problem" not in row)
    page = _finish(prediction, done, left_out)
    work.finish()
    return Predicted(done, tuple(left_out), page)


def _is_single(images: Images, out: str, settings: PredictSettings) -> bool:
    named = files.named_format(out)
    if named is None or (Path(out).is_dir() and named != "ome-zarr"):
        return False
    if len(images.items) + len(images.left_out) > 1:
        raise UserError(f"output {out} is one file, but there are {len(images.items)} images; name a folder")
    if settings.format not in (None, named):
        raise UserError(
            f"output {out} is not of the format {settings.format}; end it in {files.SUFFIX[settings.format]}"
        )
    return True


def _check_outputs(images: Images, prediction: Prediction) -> None:
    """Refuse outputs that would lie on an image, and formats that cannot hold one."""
    taken = {str(Path(item.path).resolve()) for item in images.items if "://" not in item.path}
    for item in images.items:
        paths = prediction.paths(item)
        if str(Path(paths.labels).resolve()) in taken or str(Path(prediction.out).resolve()) in taken:
            raise UserError(f"output {paths.labels} is the image itself; choose another --output")
        if paths.format == "png" and "t" in item.volume.meta.axes:
            raise UserError(f"{item.path} has time points, which PNG does not hold; use --format tif or ome-zarr")


def _begin(images: Images, prediction: Prediction, overwrite: bool) -> Unfinished:
    out = Path(prediction.out)
    exists = out.exists() if prediction.single else out.exists() and (not out.is_dir() or any(out.iterdir()))
    plan = {
        "images": [[item.name, item.path, str(item.volume.box)] for item in images.items],
        "segmenter": prediction.segmenter.identity(),
        "settings": prediction.settings.to_dict(),
    }
    work = Unfinished.begin(out, plan, exists=exists, overwrite=overwrite)
    if work.created:
        return work
    if not prediction.single:
        if exists and not (out / RECORD).exists():
            raise UserError(
                f"{out} is not overwritten, since it holds no {RECORD} that would tell it is lamella's; choose another --output"
            )
        with work.creating():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            write_json(out / RECORD, prediction.facts)
    return work


@dataclass(frozen=True)
class SmallImages:
    """Block ``k`` is image ``k``: read, predicted and written in one piece."""

    items: tuple[Item, ...]
    prediction: Prediction
    rows: Path

    def identity(self) -> dict[str, Any]:
        return {"images": [item.path for item in self.items]}

    def read(self, block: Block) -> NDArray[Any] | str:
        item = self.items[block.index]
        part = item.parts[0]
        return attempt(lambda: part.read(Box.of(part.box.shape)), item.path, self.prediction.settings.skip_bad)

    def compute(self, block: Block, data: NDArray[Any] | str) -> Any:
        if isinstance(data, str):
            return data
        item = self.items[block.index]
        return attempt(lambda: self._predict(item, data), item.path, self.prediction.settings.skip_bad)

    def _predict(self, item: Item, image: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]:
        segmenter, part = self.prediction.segmenter, item.parts[0]
        maps = segmenter.op(part)(image)
        return image, maps, segmenter.maker(part, flat=self.prediction.settings.flat).whole(maps)

    def write(self, block: Block, result: Any) -> None:
        item, prediction = self.items[block.index], self.prediction
        if isinstance(result, str):
            write_json(self.rows / f"{block.index}.json", {"problem": result})
            return
        image, maps, labels = result
        paths, facts = prediction.paths(item), files.with_facts(prediction.facts, item)
        files.write_labels(item, paths, labels, facts)
        if prediction.settings.maps:
            files.write_maps(item, paths, maps, prediction.segmenter.map_names, facts)
        if prediction.settings.plot:
            write_preview(paths.preview, preview_whole(image, labels))
        write_json(self.rows / f"{block.index}.json", prediction.record(item, int(labels.max(initial=0))))


def _do_small(items: Sequence[Item], prediction: Prediction, rows: Path, work: Unfinished, crew: Crew) -> None:
    small = [k for k, item in enumerate(items) if prediction.is_small(item)]
    if small:
        blocks = [Block(k, Box((k,), (k + 1,)), Box((k,), (k + 1,))) for k in small]
        job = SmallImages(tuple(items), prediction, rows)
        run(job, blocks, label="predicting images", ledger=work.ledger("images"), executor=crew)


def _do_large(items: Sequence[Item], prediction: Prediction, rows: Path, work: Unfinished, crew: Crew) -> None:
    for k, item in enumerate(items):
        if prediction.is_small(item) or (rows / f"{k}.json").exists():
            continue
        try:
            row = prediction.record(item, _large(k, item, prediction, work, crew))
        except UserError as error:
            if not (prediction.settings.skip_bad and item.path in str(error)):
                raise
            row = {"problem": str(error)}
        write_json(rows / f"{k}.json", row)


def _large(k: int, item: Item, prediction: Prediction, work: Unfinished, crew: Crew) -> int:
    settings, paths = prediction.settings, prediction.paths(item)
    scratch = work.folder / str(k)
    scratch.mkdir(exist_ok=True)
    large = Large(
        item, paths, prediction.segmenter, prediction.size, settings.flat, settings.maps, scratch, prediction.facts
    )
    count = large.do(crew)
    if settings.plot:
        labels = Target(open_volume(large.labels_path), large.time(0))
        write_preview(paths.preview, preview_of(item.parts[0], labels))
    shutil.rmtree(scratch)
    return count


def _finish(prediction: Prediction, rows: Sequence[dict[str, Any]], left_out: Sequence[str]) -> Path | None:
    if prediction.single:
        return None
    folder = Path(prediction.out)
    write_json(folder / RECORD, {**prediction.facts, "images": list(rows), "left_out": list(left_out)})
    if not prediction.settings.plot:
        return None
    write_page(folder / "index.html", rows, left_out, prediction.facts)
    return folder / "index.html"
