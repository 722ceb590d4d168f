"""The main job from beginning to end: sections in, a net trained on them, the stack aligned, scored and shown on one page.

Without data of the user's own, the sections are synthetic and the truth is known. Each step is what a verb does, by the same
functions; what is done is noted in ``demo.json``, so that a demonstration that was stopped goes on when it is repeated.

```
OUT/specimen/            the synthetic sections and their truth (without --data)
OUT/runs/demo/           the training run
OUT/aligned.ome.zarr     the aligned volume, its fields beside it
OUT/scores/              scores.json, sections.csv, worst.csv
OUT/report.html          all of it on one page
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.recipe.demo_settings import DemoSettings
from lamella.recipe.demonstration import RUN, Demonstration
from lamella.recipe.find import load_recipe
from lamella.recipe.recipe import Recipe
from lamella.tasks.align.evaluate import Evaluation, Inputs, evaluate_alignment
from lamella.tasks.align.refine_settings import RefineSettings
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.specimen import SpecimenConfig, make_specimen
from lamella.tasks.align.specimen.store import SpecimenFiles, write_specimen
from lamella.tasks.align.volume import align_volume, fields_path

_CHUNKS = (12, 32, 64)
# a net of a few minutes is too often wrong for its fields to be refined: along a stack that drifts
_SETTINGS = AlignSettings(refine=RefineSettings(steps=0))
_SAMPLES = 3  # pairs on which the net is tried again, both ways and against unrelated sections


class Demo(Demonstration):
    """Where a demonstration of aligning keeps its parts."""

    task = "align"
    made = (
        "specimen",
        "scores",
        "aligned.ome.zarr",
        "aligned.fields.ome.zarr",
        ".aligned.ome.zarr.unfinished",
    )

    @property
    def specimen(self) -> SpecimenFiles | None:
        return None if self.settings.data else SpecimenFiles(self.out / "specimen")

    @property
    def source(self) -> str:
        return self.settings.data or SpecimenFiles(self.out / "specimen").source

    @property
    def aligned(self) -> str:
        return str(self.out / "aligned.ome.zarr")

    def check(self) -> None:
        if self.settings.data is not None:
            _part(open_volume(self.settings.data), self.settings)

    def inputs(self) -> Inputs:
        truth = open_volume(self.specimen.truth) if self.specimen else None
        fields = open_volume(fields_path(self.aligned))
        return Inputs(open_volume(self.aligned), open_volume(self.source), fields, truth)


def run_demo(out: Path, settings: DemoSettings, *, overwrite: bool = False) -> tuple[Demo, Evaluation]:
    """Do all steps and write the report; returns where everything is, and the scores."""
    from lamella.recipe.demo_report import write_demo_report

    demo = Demo(out, settings)
    demo.begin(overwrite=overwrite)
    if settings.data is None:
        with demo.step("specimen") as todo:
            if todo:
                write_specimen(make_specimen(_specimen_config(settings), settings.seed), out / "specimen")
    box = _part(open_volume(demo.source), settings)
    with demo.step("train") as todo:
        if todo:
            _train(demo, box)
    with demo.step("align") as todo:
        if todo:
            _align(demo, box)
    with demo.step("evaluate"):  # also when it was done: the scores are needed for the page
        found = _evaluate(demo)
    write_demo_report(demo, found)
    return demo, found


def _specimen_config(settings: DemoSettings) -> SpecimenConfig:
    """The synthetic stack; short ones have no room for every defect."""
    n, side = settings.sections or 16, settings.size or 512
    room = max(n - 2, 0)
    kinds = ("num_cracks", "num_folds", "num_blackouts", "num_lost")
    defects = {kind: int(i < room) for i, kind in enumerate(kinds)}
    return SpecimenConfig.load({"num_sections": n, "size": (side, side), **defects}, "demo")


def _part(source: Volume, settings: DemoSettings) -> Box:
    """The part of the source that is used: the first sections, the middle of each."""
    if source.meta.axes != ("z", "y", "x"):
        raise UserError(
            f"{source.path} has axes {' '.join(source.meta.axes)}; the demonstration needs sections (z y x); "
            "give a folder of grey images or a volume with those axes"
        )
    limits = (settings.sections or 20, *(settings.size or 1024,) * 2)
    shape = [min(n, limit) for n, limit in zip(source.box.shape, limits, strict=True)]
    if shape[0] < 4 or min(shape[1:]) < 128:
        raise UserError(
            f"{source.path} has box {source.box}; the demonstration needs at least 4 sections of 128 by 128 px; give a larger one"
        )
    middle = [(a + b - n) // 2 for a, b, n in zip(source.box.start, source.box.stop, shape, strict=True)]
    start = (source.box.start[0], *middle[1:])
    return Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))


def demo_recipe(demo: Demo, box: Box) -> Recipe:
    """The recipe ``demo``, reading ``box`` of the source."""
    changes = [
        f"data.sources=[{{path: {json.dumps(demo.source)}, bbox: {json.dumps(str(box))}}}]",
        f"seed={demo.settings.seed}",
        f"trainer.device={demo.settings.device}",
    ]
    changes += [f"trainer.steps={demo.settings.steps}"] if demo.settings.steps else []
    recipe = load_recipe("demo", changes)
    side = min(box.shape[1:])
    crop = recipe.data.crop
    return recipe if isinstance(crop, int) and crop <= side else load_recipe("demo", [*changes, f"data.crop={side}"])


def _train(demo: Demo, box: Box) -> None:
    from lamella.recipe.train import train

    _, outcome = train(demo_recipe(demo, box), RUN, runs=demo.run.path.parent, resume=True)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _estimator(demo: Demo) -> tuple[Any, dict[str, Any]]:
    from lamella.recipe.aligner import load_estimator

    return load_estimator(f"{demo.run.path}:last", _SETTINGS, device=demo.settings.device)


def _align(demo: Demo, box: Box) -> None:
    estimator, facts = _estimator(demo)
    # overwrite: an alignment that this demonstration began goes on; a finished one that was not noted is done again
    align_volume(open_volume(demo.source), demo.aligned, estimator, _SETTINGS, box=box, overwrite=True, facts=facts)


def _evaluate(demo: Demo) -> Evaluation:
    estimator, _ = _estimator(demo)
    return evaluate_alignment(
        demo.inputs(),
        demo.out / "scores",
        chunks=_CHUNKS,
        estimate=estimator.pair,
        samples=_SAMPLES,
        overwrite=True,
    )
