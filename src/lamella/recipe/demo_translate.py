"""Translation from beginning to end: frames in, shading measured, a net trained, other positions translated, scored and shown.

Without data of the user's own, frames are synthetic. Each step is what a verb does, by the same functions.

```
OUT/frames/              synthetic frames: transmitted light through focus, two stains (without --data)
OUT/split.json           which positions were trained on, which followed the training, which are scored
OUT/frames.prep/         shading and statistics
OUT/runs/demo/           the training run
OUT/predicted/           what the net makes of the positions to score
OUT/ridge/               what a regression on filters makes of them, without any net
OUT/scores/, scores-ridge/
OUT/report.html          all of it on one page
```
"""

from __future__ import annotations

import json
import sys
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.core.volume import Meta, Volume
from lamella.io import Preprocessing, open_volume, positions_of, present
from lamella.io.frames import FRAMES
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions, open_positions
from lamella.io.prepared import as_type
from lamella.recipe.demo_settings import DemoSettings
from lamella.recipe.demonstration import RUN, Demonstration
from lamella.recipe.find import load_recipe
from lamella.recipe.recipe import Recipe
from lamella.tasks.translate.baseline import Ridge
from lamella.tasks.translate.evaluate import ImageEvaluation, evaluate_images
from lamella.tasks.translate.evaluate_inputs import open_subjects
from lamella.tasks.translate.evaluate_settings import ImageSettings
from lamella.tasks.translate.specimen import SpecimenConfig, write_specimen

_SECONDS = 110.0  # for training
_FEWEST_STEPS = 60
_LOOKS = 5  # at the held-out positions
_FEWEST = 3  # positions of one's own: one to train on, one to follow the training, one to score
_FEWEST_LIT = 8  # positions that tell light from cells
_DEPTH = 5  # slices that the net sees, where there are as many


class TranslateDemo(Demonstration):
    """Where a demonstration of translation keeps its parts."""

    task = "translate"
    made = ("frames", "split.json", "frames.prep", "predicted", "ridge", "scores", "scores-ridge")

    def check(self) -> None:
        if self.settings.data is not None:
            own_positions(self.settings)

    @property
    def source(self) -> str:
        """The frames."""
        return self.settings.data or str(self.out / "frames")

    @property
    def split(self) -> dict[str, list[str]]:
        """Positions to train on, to follow the training on and to score."""
        found: dict[str, list[str]] = json.loads((self.out / "split.json").read_text())["parts"]
        return found

    @property
    def measures(self) -> Preprocessing:
        return Preprocessing.load(self.out / "frames.prep")

    def position(self, name: str) -> Volume:
        return open_volume(self.source, dataset=name)

    @cached_property
    def channels(self) -> tuple[int, tuple[int, ...]]:
        """The input and the targets: the first channel, and all others."""
        volume = self.position(positions_of(self.source)[0])
        first = volume.box.start[1]
        there = [first + int(k) for k in np.flatnonzero(present(volume).any((0, 2)))]
        return there[0], tuple(there[1:])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the targets are called in tables."""
        volume = self.position(positions_of(self.source)[0])
        names, first = volume.meta.channel_names, volume.box.start[1]
        return tuple((names[c - first] if names else "") or f"c{c:03d}" for c in self.channels[1])


@dataclass(frozen=True)
class Compared:
    """Scores of the net and of the regression on filters, of the same planes."""

    net: ImageEvaluation
    ridge: ImageEvaluation

    def gain(self, metric: str) -> float:
        """The least that the net adds to a metric, over the stains."""
        pairs = zip(self.net.figures, self.ridge.figures, strict=True)
        return float(min(a[metric] - b[metric] for a, b in pairs))


def run_demo(out: Path, settings: DemoSettings, *, overwrite: bool = False) -> tuple[TranslateDemo, Compared]:
    """Do all steps and write the report; returns where everything is, and the scores."""
    from lamella.recipe.demo_translate_report import write_demo_report

    demo = TranslateDemo(out, settings)
    demo.begin(overwrite=overwrite)
    for name, work in (
        ("data", _make_data),
        ("prep", _prep),
        ("train", _train),
        ("predict", _predict),
        ("ridge", _ridge),
    ):
        with demo.step(name) as todo:
            if todo:
                work(demo)
    with demo.step("evaluate"):  # also when it was done: the scores are needed for the page
        found = _evaluate(demo)
    write_demo_report(demo, found)
    return demo, found


def demo_recipe(demo: TranslateDemo, steps: int | None) -> Recipe:
    """The recipe ``demo_translate``, reading the demonstration's frames; ``steps`` of None are the recipe's own."""
    shown, targets = demo.channels
    depth = demo.position(demo.split["train"][0]).box.shape[2]
    changes = [
        f"data.sources=[{json.dumps({'path': demo.source})}]",
        f"data.preprocessing={demo.out / 'frames.prep'}",
        f"data.inputs=[{shown}]",
        f"data.targets={list(targets)}",
        f"data.depth={min(_DEPTH, depth - 1 + depth % 2)}",
        f"data.split={demo.out / 'split.json'}",
        f"seed={demo.settings.seed}",
        f"trainer.device={demo.settings.device}",
    ]
    changes += [f"trainer.steps={steps}", f"trainer.validate_every={max(steps // _LOOKS, 1)}"] if steps else []
    return load_recipe("demo_translate", changes)


def own_positions(settings: DemoSettings) -> tuple[str, ...]:
    """Positions of one's own, if there are enough and all have several channels."""
    assert settings.data is not None
    names = tuple(open_positions(settings.data))[: settings.images]  # a path that is nothing is refused here
    if len(names) < _FEWEST:
        raise UserError(
            f"{settings.data} has {len(names)} positions; the demonstration needs a folder of frames or a plate with at least {_FEWEST}"
        )
    volume = open_volume(settings.data, dataset=names[0])
    if present(volume).any((0, 2)).sum() < 2:
        raise UserError(
            f"{settings.data} has one channel; the demonstration learns the others from the first, so it needs at least two"
        )
    return names


def _make_data(demo: TranslateDemo) -> None:
    """The synthetic frames, and which positions are for what: a sixth to follow the training, a fifth to score."""
    settings = demo.settings
    if settings.data is None:
        side = settings.size or 256
        config = SpecimenConfig(positions=settings.images or 14, size=(side, side))
        write_specimen(config, settings.seed, demo.out / "frames")
        names = positions_of(demo.source)
    else:
        names = own_positions(settings)
    mixed = [names[k] for k in stream(settings.seed, "demo", "split").permutation(len(names))]
    validation, test = max(len(names) // 6, 1), max(len(names) // 5, 1)
    parts = {
        "train": mixed[validation + test :],
        "validation": mixed[:validation],
        "test": mixed[validation : validation + test],
    }
    write_json(demo.out / "split.json", {"column": "position", "parts": {k: sorted(v) for k, v in parts.items()}})


def _prep(demo: TranslateDemo) -> None:
    """Shading and statistics, of the positions that are trained on; the light is taken as it is where it cannot be measured."""
    from lamella.prep.frame_settings import PrepConfig, Selection, ShadingSettings, StatisticsSettings
    from lamella.prep.pipeline import run_prep

    shading = ShadingSettings(order=2) if len(demo.split["train"]) >= _FEWEST_LIT else None
    config = PrepConfig(
        source=demo.source,
        out=str(demo.out / "frames.prep"),
        select=Selection(positions=tuple(demo.split["train"])),
        shading=shading,
        statistics=StatisticsSettings(centre="mean"),
    )
    try:
        deque(run_prep(config), 0)
    except UserError as error:
        if "shading" not in str(error):
            raise
        print(f"the light is taken as it is: {error}", file=sys.stderr)
        deque(run_prep(config.model_copy(update={"shading": None}), overwrite=True), 0)


def _steps(demo: TranslateDemo) -> int:
    """As many as were asked for, or as fit into the time that a demonstration may take; found once."""
    if demo.settings.steps is not None:
        return demo.settings.steps
    if "steps" in demo.found:
        return demo.found["steps"]
    from lamella.recipe.demo_speed import affordable_steps

    return demo.note("steps", affordable_steps(demo_recipe(demo, None), _SECONDS, _FEWEST_STEPS))


def _train(demo: TranslateDemo) -> None:
    from lamella.recipe.train import train

    _, outcome = train(demo_recipe(demo, _steps(demo)), RUN, runs=demo.run.path.parent, resume=True)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _predict(demo: TranslateDemo) -> None:
    from lamella.recipe.translator import load_translator
    from lamella.tasks.translate.predict import translate_images
    from lamella.tasks.translate.predict_settings import TranslateSettings
    from lamella.tasks.translate.predict_source import find_source
    from lamella.tasks.translate.predict_statistics import adapted

    translator, facts = load_translator(f"{demo.run.path}:last", device=demo.settings.device)
    settings = TranslateSettings(positions=tuple(demo.split["test"]), format="frames")
    source = find_source([demo.source], translator, settings)
    each = adapted(source, translator, settings, "mean")
    # overwrite: a prediction that this demonstration began goes on; a finished one that was not noted is done again
    translate_images(source, str(demo.out / "predicted"), each, settings, overwrite=True, facts=facts)


def _ridge(demo: TranslateDemo) -> None:
    """The regression on filters, trained and applied on the same positions as the net."""
    split = demo.split
    pairs = [_pair(demo, name) for name in split["train"]]
    floor = Ridge.fit([stack for stack, _, _ in pairs], [targets for _, targets, _ in pairs])
    with progress("regressing", len(split["test"]), "positions") as meter:
        shown = {name: _pair(demo, name) for name in split["test"]}
        first, last = min(demo.channels[1]), max(demo.channels[1])
        plans = {}
        for name, (stack, _, z) in shown.items():
            box = Box((0, first, z, 0, 0), (1, last + 1, z + 1, *stack.shape[1:]))
            listed = {"columns": ["t", "c", "z"], "rows": [list(r) for r in product((0,), demo.channels[1], (z,))]}
            plans[name] = make_plan(
                box, "uint16", Meta.plain("tczyx", provenance={FRAMES: listed}), (1, 1, 1, *stack.shape[1:])
            )
        create_positions(str(demo.out / "ridge"), plans, kind="frames", overwrite=True)
        for name, (stack, _, z) in shown.items():
            volume = open_volume(demo.out / "ridge", dataset=name, writable=True)
            for channel, image in zip(demo.channels[1], as_type(floor(stack), np.dtype("uint16")), strict=True):
                here = Box((0, channel, z, 0, 0), (1, channel + 1, z + 1, *image.shape))
                volume.write(here, image[None, None, None])
            meter.advance()


def _pair(demo: TranslateDemo, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """All slices of the input, normalised; the targets under even light at the first slice that has all; and that slice."""
    volume = demo.position(name)
    shown, plain = demo.measures.view(volume), demo.measures.view(volume, normalise=False)
    (t, first, low, *_), box = shown.box.start, shown.box
    number, targets = demo.channels
    there = present(volume)[0, [c - first for c in targets]].all(0)
    z = low + int(np.flatnonzero(there)[0])
    stack = shown.read(Box((t, number, low, *box.start[3:]), (t + 1, number + 1, *box.stop[2:])))[0, 0]
    images = [
        plain.read(Box((t, c, z, *box.start[3:]), (t + 1, c + 1, z + 1, *box.stop[3:])))[0, 0, 0] for c in targets
    ]
    return stack, np.stack(images), z


def _evaluate(demo: TranslateDemo) -> Compared:
    """Score both on the same planes: those at which the truth exists, under even light."""
    found: dict[str, Any] = {}
    for kind, out in (("ridge", "scores-ridge"), ("predicted", "scores")):
        settings = ImageSettings(prep=str(demo.out / "frames.prep"), percentiles="1,99.9", panels=6)
        subjects = open_subjects(str(demo.out / kind), demo.source, settings)
        found[kind] = evaluate_images(subjects, demo.out / out, settings, overwrite=True)
    return Compared(found["predicted"], found["ridge"])
