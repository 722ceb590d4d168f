"""Embeddings from beginning to end: a net learns from images alone, and a head from a few points, beside what people do otherwise.

Without data of the user's own, the images are synthetic and the truth is known. It is a small study (see ``lamella.recipe.study``):
the same points go to all methods, thresholds are chosen on images of validation, others are scored.

```
OUT/specimen/       the synthetic images and their labels (without --data)
OUT/split.json      which images points are drawn from, which are chosen on, which are scored
OUT/study/          the study: points, nets, tables, and a page of its own
OUT/report.html     all of it on one page, with pictures
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.data.labelled_image import LabelledImage
from lamella.data.points_table import read_points
from lamella.recipe.demo_segment import SegmentDemo, make_data
from lamella.recipe.demo_settings import DemoSettings
from lamella.recipe.study.config import StudyConfig
from lamella.recipe.study.images import Sets, whole
from lamella.recipe.study.methods import Embedded, learner_of
from lamella.recipe.study.recipes import contrast_recipe, normaliser_of
from lamella.recipe.study.report import write_page
from lamella.recipe.study.results import Results
from lamella.recipe.study.run import Study, begin_study, run_study
from lamella.recipe.study.score import Scorer

POINTS = 100
_SECONDS = 80.0  # for the net that embeds
_FEWEST_STEPS = 100
_SHARE = 4  # the training end to end has a quarter of the steps
_SHOWN = 3  # images in pictures


class ContrastDemo(SegmentDemo):
    """Where a demonstration of embeddings keeps its parts; images are those of a demonstration of segmentation."""

    task = "contrast"
    made = ("specimen", "split.json", "study")

    def config(self) -> StudyConfig:
        """The study, as far as it is known: without steps before these are found."""
        steps = self.settings.steps or self.found.get("steps", _FEWEST_STEPS)
        shared = {"trainer.device": self.settings.device, "trainer.panels_every": 0, "trainer.graph": False}
        net = {
            "kind": "unet",
            "features": [24, 48, 96],
            "down": [2, 2],
            "fold": 2,
            "residual": True,
            "skip": "add",
            "edges": "replicate",
        }
        crops: dict[str, Any] = {"trainer.batch_size": 4, "data.crop": 144}
        crops["task.imaging"] = [
            {"kind": "noise", "p": 0.5, "std": [0.0, 0.06]}
        ]  # brightness tells nuclei from background
        beside = {"task.beside": [0, 1, 2, 4, 8]}
        return StudyConfig.load(
            {
                **{
                    name: self.source(part)
                    for name, part in (("train", "train"), ("validation", "val"), ("test", "test"))
                },
                "points": [POINTS],
                "seeds": 1,
                "classes": {"kind": "boundary"},
                "objects": [{"kind": "watershed"}, {"kind": "watershed", "boundaries": "soft"}],
                "contrast": {
                    "recipe": "contrast",
                    "set": {**shared, **crops, **beside, "task.net": net, "trainer.steps": steps},
                },
                "scratch": {
                    "recipe": "head_baseline",
                    "set": {**shared, **crops, "trainer.steps": max(steps // _SHARE, 2)},
                },
                "looks": 2,
            },
            "demonstration",
        )


@dataclass(frozen=True)
class Strip:
    """One test image with its truth, its embedding (h, y, x), and the objects that each method finds."""

    name: str
    image: NDArray[np.float32]
    truth: NDArray[np.int64]
    embedding: NDArray[np.float32]
    objects: Mapping[str, NDArray[np.int32]]


def run_demo(out: Path, settings: DemoSettings, *, overwrite: bool = False) -> tuple[ContrastDemo, Results]:
    """Do all steps and write the report; returns where everything is, and what the study found."""
    from lamella.recipe.demo_contrast_report import write_demo_report

    demo = ContrastDemo(out, settings)
    demo.begin(overwrite=overwrite)
    with demo.step("data") as todo:
        if todo:
            make_data(demo)
    with demo.step("study") as todo:
        if todo:
            _find_steps(demo)
            run_study(begin_study(demo.config(), demo.out / "study"))
    results = Results.of(Study(demo.config(), demo.out / "study"))
    results.write()
    write_page(results)
    with demo.step("pictures"):  # also when it was done: they are needed for the page
        strips = show(results)
    write_demo_report(demo, results, strips)
    return demo, results


def _find_steps(demo: ContrastDemo) -> None:
    """As many as were asked for, or as fit into the time that a demonstration may take; found once."""
    if demo.settings.steps is None and "steps" not in demo.found:
        from lamella.recipe.demo_speed import affordable_steps

        demo.note("steps", affordable_steps(contrast_recipe(demo.config(), 0), _SECONDS, _FEWEST_STEPS))


def show(results: Results) -> list[Strip]:
    """Some test images as each method sees them, with the look and the threshold that were chosen."""
    study = results.study
    config = study.config
    sets = Sets.open(config, normaliser_of(config))
    chosen = sets.test[:: max(len(sets.test) // _SHOWN, 1)][:_SHOWN]
    scorer, embedded = Scorer(config, chosen), Embedded(config, 0, study.nets)
    found: dict[str, dict[str, NDArray[np.int32]]] = {image.name: {} for image in chosen}
    images = {image.name: image for image in sets.train}
    for row in results.rows:
        learner = learner_of(row["method"], config, 0, images, study.nets)
        looks = learner.looks(read_points(study.points(0)), row["points"])
        look = next(each for each in looks if each.name == row["look"])
        way = next(w for w in config.ways if (w.number, w.threshold) == (row["objects"], row["threshold"]))
        for image, samples in scorer.images:
            found[image.name][row["method"]] = scorer.objects(look.maps(image), way, samples[0][0])
    return [_strip(image, samples[0][1], embedded, found[image.name]) for image, samples in scorer.images]


def _strip(
    image: LabelledImage, truth: NDArray[np.int64], embedded: Embedded, objects: Mapping[str, NDArray[Any]]
) -> Strip:
    return Strip(image.name, whole(image)[0, 0], truth, embedded.of(image)[:, 0], objects)
