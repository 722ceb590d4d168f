"""Segmentation from beginning to end: labelled images in, a net trained on them, instances predicted, scored and shown on one page.

Without data of the user's own, the images are synthetic and the truth is known. Each step is what a verb does, by the same
functions.

```
OUT/specimen/            the synthetic images and their labels (without --data)
OUT/split.json           which images were trained on, which chose nothing but the curve, which are scored
OUT/runs/demo/           the training run
OUT/predicted/           instances that the net found in the images to score
OUT/otsu/                instances that a threshold and a watershed find in them, without any training
OUT/scores/, scores-otsu scores of both
OUT/report.html          all of it on one page
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.core.volume import Volume
from lamella.io import create_volume, open_volume
from lamella.io.pairs import Pair, find_pairs, read_names, select
from lamella.recipe.demo_settings import DemoSettings
from lamella.recipe.demonstration import RUN, Demonstration
from lamella.recipe.find import load_recipe
from lamella.recipe.recipe import Recipe
from lamella.tasks.segment.evaluate import InstanceEvaluation, evaluate_instances
from lamella.tasks.segment.evaluate_inputs import Subject, open_subjects
from lamella.tasks.segment.evaluate_settings import InstanceSettings
from lamella.tasks.segment.specimen import BLOB, SETS, SpecimenConfig, write_specimen

_SECONDS = 110.0  # for training
_FEWEST_STEPS = 80  # after fewer a net finds nothing
_LOOKS = 5  # at the images to follow the training on
_FEWEST = 6  # images of one's own: four to train on, one to follow the training, one to score


class SegmentDemo(Demonstration):
    """Where a demonstration of segmentation keeps its parts."""

    task = "segment"
    made: ClassVar[Sequence[str]] = ("specimen", "split.json", "predicted", "otsu", "scores", "scores-otsu")

    @property
    def is_synthetic(self) -> bool:
        return self.settings.data is None

    @property
    def ignore(self) -> tuple[int, ...]:
        """Labels that do not count: of synthetic images the heaps."""
        return (BLOB,) if self.is_synthetic else ()

    def check(self) -> None:
        if self.settings.data is not None:
            _usable(self.settings.data, self.settings)

    def split(self) -> dict[str, list[Pair]]:
        """Images to train on, to follow the training on and to score on."""
        if self.settings.data is None:
            return {part: find_pairs(str(self.out / "specimen" / part)) for part in SETS}
        pairs, path = find_pairs(self.settings.data), self.settings.data
        return {part: select(pairs, read_names(f"{self.out / 'split.json'}:{part}"), path) for part in SETS}

    def source(self, part: str) -> dict[str, Any]:
        """What a recipe calls the images of ``part``."""
        if self.settings.data is None:
            return {"path": str(self.out / "specimen" / part), "ignore": [BLOB]}
        return {"path": self.settings.data, "names": f"{self.out / 'split.json'}:{part}"}


@dataclass(frozen=True)
class Compared:
    """Scores of the net, which hold those of the threshold as their baseline, and of the threshold by itself."""

    net: InstanceEvaluation
    otsu: InstanceEvaluation

    @cached_property
    def gain(self) -> float:
        """What the net adds to AP at IoU 0.5, pooled."""
        return float(self.net.figures()["AP50_pool"] - self.otsu.figures()["AP50_pool"])


def run_demo(out: Path, settings: DemoSettings, *, overwrite: bool = False) -> tuple[SegmentDemo, Compared]:
    """Do all steps and write the report; returns where everything is, and the scores."""
    from lamella.recipe.demo_segment_report import write_demo_report

    demo = SegmentDemo(out, settings)
    demo.begin(overwrite=overwrite)
    with demo.step("data") as todo:
        if todo:
            make_data(demo)
    with demo.step("train") as todo:
        if todo:
            _train(demo)
    with demo.step("predict") as todo:
        if todo:
            _predict(demo)
    with demo.step("threshold") as todo:
        if todo:
            _threshold(demo)
    with demo.step("evaluate"):  # also when it was done: the scores are needed for the page
        found = _evaluate(demo)
    write_demo_report(demo, found)
    return demo, found


def demo_recipe(demo: SegmentDemo, steps: int | None) -> Recipe:
    """The recipe ``demo_segment``, reading the demonstration's images; ``steps`` of None are the recipe's own."""
    changes = [
        f"data.sources=[{json.dumps(demo.source('train'))}]",
        f"validation.sources=[{json.dumps(demo.source('val'))}]",
        f"task.channels={_num_channels(open_volume(demo.split()['train'][0].image))}",
        f"seed={demo.settings.seed}",
        f"trainer.device={demo.settings.device}",
    ]
    changes += [f"trainer.steps={steps}", f"trainer.validate_every={max(steps // _LOOKS, 1)}"] if steps else []
    return load_recipe("demo_segment", changes)


def _steps(demo: SegmentDemo) -> int:
    """As many as were asked for, or as fit into the time that a demonstration may take; found once."""
    if demo.settings.steps is not None:
        return demo.settings.steps
    if "steps" in demo.found:
        return demo.found["steps"]
    from lamella.recipe.demo_speed import affordable_steps

    return demo.note("steps", affordable_steps(demo_recipe(demo, None), _SECONDS, _FEWEST_STEPS))


def _usable(path: str, settings: DemoSettings) -> list[Pair]:
    """Images of one's own, if there are enough and all are 2D."""
    pairs = find_pairs(path)
    unlabelled = next((p for p in pairs if p.labels is None), None)
    if unlabelled is not None:
        raise UserError(
            f"{unlabelled.image} has no labels; the demonstration learns from images with labels: images/ beside labels/, or "
            "x.tif beside x_masks.tif"
        )
    pairs = pairs[: settings.images]
    if len(pairs) < _FEWEST:
        raise UserError(f"{path} has {len(pairs)} labelled images; the demonstration needs at least {_FEWEST}")
    for pair in pairs:
        axes = open_volume(pair.image).meta.axes
        if set(axes) - set("cyx"):
            raise UserError(
                f"{pair.image} has axes {' '.join(axes)}; the demonstration takes single images (y x); train on volumes with "
                "lamella train segment"
            )
    return pairs


def make_data(demo: SegmentDemo) -> None:
    """The synthetic images, or a split of one's own: a sixth to follow the training, a fifth to score."""
    settings = demo.settings
    if settings.data is None:
        write_specimen(_specimen_config(settings), settings.seed, demo.out / "specimen")
        split = {part: [pair.name for pair in pairs] for part, pairs in demo.split().items()}
    else:
        names = [pair.name for pair in _usable(settings.data, settings)]
        mixed = [names[k] for k in stream(settings.seed, "demo", "split").permutation(len(names))]
        val, test = max(len(names) // 6, 1), max(len(names) // 5, 1)
        split = {"val": mixed[:val], "test": mixed[val : val + test], "train": mixed[val + test :]}
    write_json(demo.out / "split.json", split)


def _specimen_config(settings: DemoSettings) -> SpecimenConfig:
    total, side = settings.images or 40, settings.size or 256
    val, test = max(total * 3 // 20, 1), max(total // 4, 2)
    return SpecimenConfig(train=total - val - test, val=val, test=test, size=(side, side))


def _train(demo: SegmentDemo) -> None:
    from lamella.recipe.train import train

    _, outcome = train(demo_recipe(demo, _steps(demo)), RUN, runs=demo.run.path.parent, resume=True)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _predict(demo: SegmentDemo) -> None:
    from lamella.data.inputs import find_images
    from lamella.recipe.segmenter import load_segmenter
    from lamella.tasks.segment.predict import predict_images
    from lamella.tasks.segment.predict_settings import PredictSettings

    segmenter, facts = load_segmenter(f"{demo.run.path}:last", device=demo.settings.device)
    images = find_images([pair.image for pair in demo.split()["test"]], segmenter)
    # overwrite: a prediction that this demonstration began goes on; a finished one that was not noted is done again
    predict_images(
        images, str(demo.out / "predicted"), segmenter, PredictSettings(format="tif"), overwrite=True, facts=facts
    )


def predicted(demo: SegmentDemo) -> Mapping[str, str]:
    """The instances that the net found, by the path of the image."""
    record = json.loads((demo.out / "predicted" / "predict.json").read_text())
    return {row["image"]: row["labels"] for row in record["images"]}


def thresholded(demo: SegmentDemo, pair: Pair) -> str:
    """Where the instances are that the threshold found."""
    return str(demo.out / "otsu" / f"{pair.name.replace('/', '_')}.tif")


def _threshold(demo: SegmentDemo) -> None:
    from lamella.tasks.segment.baseline import otsu_instances

    pairs = demo.split()["test"]
    with progress("thresholding", len(pairs), "images") as meter:
        for pair in pairs:
            volume = open_volume(pair.image)
            labels = otsu_instances(_grey(volume))
            meta = replace(volume.meta, axes=("y", "x"), channel_names=(), provenance={})
            keep = [volume.meta.axes.index(a) for a in "yx"]
            meta = replace(
                meta,
                voxel_size=tuple(volume.meta.voxel_size[k] for k in keep),
                units=tuple(volume.meta.units[k] for k in keep),
                translation=(),
            )
            target = Path(thresholded(demo, pair))
            target.parent.mkdir(exist_ok=True)
            (written,) = create_volume(target, box=Box.of(labels.shape), dtype=labels.dtype, meta=meta, overwrite=True)
            written.write(written.box, labels)
            meter.advance()


def _grey(volume: Volume) -> NDArray[Any]:
    """An image as (y, x), of several channels their mean."""
    array = volume.read(volume.box)
    return array.mean(axis=volume.meta.axes.index("c"), dtype=np.float32) if "c" in volume.meta.axes else array


def _num_channels(volume: Volume) -> int:
    return volume.box.shape[volume.meta.axes.index("c")] if "c" in volume.meta.axes else 1


def _evaluate(demo: SegmentDemo) -> Compared:
    """Score both on the same images; the threshold is the baseline of the net."""
    pairs, found = demo.split()["test"], predicted(demo)
    plain = InstanceSettings(ignore=",".join(map(str, demo.ignore)))
    before = _subjects(pairs, {pair.image: thresholded(demo, pair) for pair in pairs}, plain)
    otsu = evaluate_instances(before, demo.out / "scores-otsu", plain, overwrite=True)
    beside = plain.model_copy(update={"baseline": str(demo.out / "scores-otsu")})
    net = evaluate_instances(_subjects(pairs, found, beside), demo.out / "scores", beside, overwrite=True)
    return Compared(net, otsu)


def _subjects(pairs: Sequence[Pair], labels: Mapping[str, str], settings: InstanceSettings) -> list[Subject]:
    found = []
    for pair in pairs:
        assert pair.labels is not None
        shown = settings.model_copy(update={"images": pair.image})
        (subject,) = open_subjects(labels[pair.image], pair.labels, shown)
        found.append(replace(subject, name=pair.name))
    return found
