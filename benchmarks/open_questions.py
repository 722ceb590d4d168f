"""Questions that the makers of SEAMLeSS left open, answered by measurement.

    python benchmarks/open_questions.py DATA OUT [--questions similarity defects normalisation smoothness] [--seeds 0 1] [--steps 150]

- **similarity**: which penalty makes the net find what is there: mse, ncc, ssim, or the correlation of the net's own encodings? Each at
  weights at which it rises as much as ``ncc`` at 1 and 3 where tissue lies 4 pixels off.
- **normalisation**: which makes errors comparable between sections of different contrast, and what does it do to alignment?
- **defects**: does self-supervision learn cracks and folds: with their masks, without, or better not at all?
- **smoothness**: which penalty, each at weights that cost fields between neighbours as much as
  ``jacob`` at 1 and 4?

DATA holds em_isbi2012/image (sections 0 to 14 to learn from, 15 to 18 held out) and em_vnc/raw (0 to 8, 9 to 11). Every variant goes on
from one start, a small net that has learnt drawn fields alone and seen no penalty, for the same number of steps; or from --start, a run
with its own net. Held-out pairs have known fields (``open_questions_pairs.py``). What is in OUT already is not done again. Tables have
means over pairs and seeds, and half the range over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from lamella.core.rng import stream
from lamella.io import open_volume
from lamella.ops.field import coarser, warp
from lamella.ops.normalise import Local, MinMax, Percentile, Plain, Rank, ZScore
from lamella.ops.similarity import LocalCorrelation, MeanSquare, StructuralSimilarity
from lamella.ops.smoothness import Smoothness
from lamella.recipe.aligner import load_estimator
from lamella.recipe.find import load_recipe
from lamella.recipe.load import load_run
from lamella.recipe.train import train
from lamella.tasks.align.settings import AlignSettings
from open_questions_pairs import SIDE, TRAINING, imaged, make_pairs, places, score_smooth, score_torn

torch.set_num_threads(1)
NET = "task.net={levels: 5, skip: 2, features: 8, features_step: 4, channels: [24, 32, 16], kernel: 5, correlation: 3}"
LOSS = (  # what the aligner of benchmarks/align was tuned with; questions change parts of it
    "task.smoothness={weight: 2, penalty: {kind: jacob}}",
    "task.consensus={unrelated: 0.3, round_trip: 0.1, deformation: 0.15, ramp: 0}",
    "task.known_weight=0.15",
    "task.known.amplitude=[1, 20]",
)
DAMAGED = (
    "task.specimen=[{kind: rotate}, {kind: scale}, {kind: jitter, max_shift: 5}, {kind: crack, p: 0.3}, {kind: fold, p: 0.3}, "
    "{kind: rotate}, {kind: mirror}, {kind: transpose}, {kind: cut}, {kind: reverse}]"
)
BLIND = ("task.similarity={near: 1, inside: 1}", "task.smoothness.near=1", "task.smoothness.inside=1")
COLUMNS = {  # of what is measured, what the tables show; errors in pixels
    "same_med": "error, median",
    "same_p95": "95th percentile",
    "cross_med": "to the next section",
    "cross_p95": "95th percentile",
    "null": "null",
    "net": "net correlation",
    "folded_percent": "folded, %",
    "crack_blind_p95": "near cracks, 95th",
    "crack_told_p95": "with masks",
    "fold_blind_p95": "near folds, 95th",
    "fold_told_p95": "with masks",
}
QUESTIONS = ("similarity", "defects", "normalisation", "smoothness")
NORMALISERS = {
    "rank": Rank(radius=64),
    "local": Local(),
    "zscore": ZScore(),
    "percentile": Percentile(),
    "minmax": MinMax(),
    "none": Plain(),
}
PENALTIES = (MeanSquare(), LocalCorrelation(), StructuralSimilarity())
OFF = 4  # pixels by which tissue lies off where it does not fit


@dataclass(frozen=True)
class Variant:
    """A training: what it changes of the recipe, and the normaliser that it and its start have."""

    name: str
    changes: tuple[str, ...] = ()
    normaliser: str = "local"
    torn: bool = False


def similarity(data: Path, kind: str, weight: float) -> tuple[str, ...]:
    """A penalty that rises as much as ``ncc`` at ``weight`` where tissue does not fit; encodings are taken to rise as ``ncc`` does."""
    rises = {p.kind: np.mean([rise for _, rise in errors(data, "local", p.kind)]) for p in PENALTIES}
    scale = rises["ncc"] / rises.get(kind, rises["ncc"])
    return f"task.similarity.penalty.kind={kind}", f"task.similarity.weight={weight * scale:.4g}"


def variants(question: str, lab: Lab) -> list[Variant]:
    """The trainings that answer a question."""
    if question == "similarity":
        kinds = ("ncc", "encodings", "mse", "ssim")
        return [Variant(f"{kind} {w}", similarity(lab.data, kind, w)) for kind in kinds for w in (1, 3)]
    if question == "normalisation":
        return [Variant(kind, (), kind) for kind in ("local", "rank", "zscore", "none")]
    if question == "defects":
        masked, blind = Variant("damage, masks", (DAMAGED,), torn=True), (DAMAGED, *BLIND)
        return [Variant("no damage", torn=True), masked, Variant("damage, no masks", blind, torn=True)]
    kinds = ("jacob", "cjacob", "lap", "tv", "rigidity")
    return [Variant(f"{kind} {w}", lab.smoothness(kind, w)) for kind in kinds for w in (1, 4)]


@dataclass
class Lab:
    """Where things are and how long they take."""

    data: Path
    out: Path
    start: str | None
    steps: int
    start_steps: int
    crop: int

    def answer(self, question: str, variant: Variant, seed: int) -> dict[str, Any]:
        """The scores of one training, which is done if they are not there yet."""
        path = self.out / question / f"{_file(variant.name)}_{seed}.json"
        if not path.exists():
            started = time.process_time()
            run = self._trained(f"{question}-{_file(variant.name)}_{seed}", variant, seed)
            trained = time.process_time()
            estimator = load_estimator(run, AlignSettings(tile=2048), device="cpu")[0]
            rows = [score_smooth(estimator, pair) for pair in self._pairs("none")]
            if variant.torn:
                for kind in ("crack", "fold"):
                    torn = [score_torn(estimator, pair) for pair in self._pairs(kind)]
                    rows += [{f"{kind}_{name}": v for name, v in row.items()} for row in torn]
            names = dict.fromkeys(name for row in rows for name in row)
            scores = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
            scores |= {"train_cpu_s": trained - started, "score_cpu_s": time.process_time() - trained}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(scores, indent=1) + "\n")
        return json.loads(path.read_text())

    def smoothness(self, kind: str, weight: float) -> tuple[str, ...]:
        """A penalty that costs the fields between neighbours as much as ``jacob`` at ``weight``, as the start finds them."""
        prices = self._prices()
        return (
            f"task.smoothness.penalty.kind={kind}",
            f"task.smoothness.weight={weight * prices['jacob'] / prices[kind]:.4g}",
        )

    @cache  # noqa: B019 (one lab, which lives as long as the program)
    def _prices(self) -> dict[str, float]:
        """The mean of each smoothness penalty, on the grid of the finest level of the net."""
        settings = AlignSettings(tile=2048, passes=1)
        estimator = load_estimator(self.start or self._beginning("local"), settings, device="cpu")[0]
        fields = []
        for folder in TRAINING:
            stack = open_volume(self.data / folder)
            for z in (2, 5):
                a, b = stack.read(stack.box)[z : z + 2, :SIDE, :SIDE]
                fields.append(coarser(coarser(torch.from_numpy(estimator.pair(a, b))[None])))
        kinds = [penalty() for penalty in get_args(get_args(Smoothness)[0])]
        return {p.kind: float(np.mean([p(f)[..., 8:-8, 8:-8].mean() for f in fields])) for p in kinds}

    def _trained(self, name: str, variant: Variant, seed: int) -> str:
        parent = self.start or self._beginning(variant.normaliser)
        changes = [*self._recipe(variant.normaliser, self.steps), *LOSS, *variant.changes, f"seed={seed}"]
        return self._train(name, changes, parent)

    def _beginning(self, normaliser: str) -> str:
        """A run that has learnt fields that were drawn, and nothing of neighbours."""
        changes = [
            *self._recipe(normaliser, self.start_steps),
            *LOSS,
            "task.known.share=1",
            "trainer.learning_rate=2e-3",
        ]
        return self._train(f"start-{normaliser}", changes, None)

    def _train(self, name: str, changes: list[str], parent: str | None) -> str:
        run, _ = train(load_recipe("align", changes), name, runs=self.out / "runs", parent=parent, resume=True)
        return str(run.path)

    def _recipe(self, normaliser: str, steps: int) -> list[str]:
        sources = ", ".join(f"{{path: {self.data / folder}, z: '{z}'}}" for folder, z in TRAINING.items())
        net, values = NET, NORMALISERS[normaliser].to_dict()
        if self.start:
            recipe = load_run(self.start, task="align").recipe.to_dict()
            net, values = f"task.net={json.dumps(recipe['task']['net'])}", recipe["data"]["normaliser"]
        return [
            f"data.sources=[{sources}]",
            f"data.crop={self.crop}",
            f"data.normaliser={json.dumps(values)}",
            net,
            f"trainer.steps={steps}",
            *("trainer.batch_size=6", "trainer.schedule.warmup=10", "trainer.threads=1", "trainer.device=cpu"),
            *("trainer.panels_every=0", f"trainer.checkpoint_every={steps}", "trainer.graph=false"),
        ]

    @cache  # noqa: B019 (one lab, which lives as long as the program)
    def _pairs(self, damage: str) -> list[Any]:
        return make_pairs(self.data, damage)

    def __hash__(self) -> int:
        return id(self)


@cache
def errors(data: Path, normaliser: str, kind: str) -> list[tuple[float, float]]:
    """A penalty of tissue that fits exactly, and its rise where the same tissue lies off, for sections that were imaged in several ways."""
    normalise = NORMALISERS[normaliser].build(0)
    penalty = next(p for p in PENALTIES if p.kind == kind)
    off = torch.zeros(1, 2, SIDE, SIDE)
    off[:, 1] = OFF
    found = []
    for place, own, _ in places(data):
        rng = stream(1, place)
        for _ in range(3):
            x, y = (torch.from_numpy(normalise(imaged(rng, own / np.float32(255))))[None, None] for _ in range(2))
            fits, lies_off = (
                float(penalty(v, y, torch.ones_like(x))[..., 16:-16, 16:-16].mean()) for v in (x, warp(x, off))
            )
            found.append((fits, lies_off - fits))
    return found


def comparable(data: Path) -> str:
    """For each normaliser and penalty: how much the error of tissue that fits exactly varies with the section and how it was imaged (its
    standard deviation), over how much the error rises when the same tissue lies off."""
    lines = ["| | " + " | ".join(p.kind for p in PENALTIES) + " |", "|---|" + "---|" * len(PENALTIES)]
    for name in NORMALISERS:
        both = [np.array(errors(data, name, penalty.kind)) for penalty in PENALTIES]
        lines.append(f"| {name} | " + " | ".join(f"{v[:, 0].std() / v[:, 1].mean():.3f}" for v in both) + " |")
    return "\n".join(lines)


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Means over seeds, with half their range."""
    shown = {name: title for name, title in COLUMNS.items() if name in next(iter(rows.values()))[0]}
    lines = ["| | " + " | ".join(shown.values()) + " |", "|---|" + "---|" * len(shown)]
    for variant, seeds in rows.items():
        values = {name: np.array([row[name] for row in seeds]) for name in shown}
        cells = [f"{v.mean():.{_digits(name)}f} ± {np.ptp(v) / 2:.{_digits(name)}f}" for name, v in values.items()]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _digits(column: str) -> int:
    return 3 if column in ("null", "net") else 2


def _file(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", nargs="+", default=QUESTIONS, choices=QUESTIONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--start", help="a run to start from, in place of one trained here")
    parser.add_argument("--steps", type=int, default=150, help="of each variant")
    parser.add_argument("--start-steps", type=int, default=600, help="of the common start")
    parser.add_argument("--crop", type=int, default=192, help="of training windows, pixels")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lab = Lab(args.data.resolve(), args.out, args.start, args.steps, args.start_steps, args.crop)
    for question in args.questions:
        if question == "normalisation":
            text = f"## how much errors of what fits vary, over how much they tell\n\n{comparable(args.data)}\n"
            (args.out / "comparable.md").write_text(text)
            print(text, flush=True)
        rows: dict[str, list[dict[str, Any]]] = {}
        for variant in variants(question, lab):
            rows[variant.name] = [lab.answer(question, variant, seed) for seed in args.seeds]
        text = f"## {question}\n\n{table(rows)}\n"
        (args.out / f"{question}.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
