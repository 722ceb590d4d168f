"""Stains from phase contrast: train on three of four positions within a CPU budget on one thread, predict the fourth.

    python benchmarks/translate/stain.py DATA OUT --methods 2d --folds 0 1 2 3 --seeds 0 1 2 --cpu-seconds 3600

DATA is a folder of frames: 13 slices of phase contrast (channel 0), and DAPI, MAP2 and NFH (channels 1 to 3) at the middle slice.
Targets and predictions are compared on a common scale: 0 and 1 are the 1 and 99.9 percentiles of the training positions, and both are
cut to these. Pearson's r and SSIM (scikit-image's defaults, data_range 1) are means over the folds. All times are CPU time of this
process, so that a busy machine changes nothing; how many steps fit into the budget is measured first, on as few as 12. What is there
already is not repeated. KEY=VALUE changes the recipe of every method. With several seeds the nets of all of them together,
averaged, are scored too, and with ``--mixed`` those of all methods and seeds.

Methods: ``2d`` is the recipe that lamella ships, and ``25d``, ``3d`` those of these names; ``25d-3`` and so on see that many slices;
``half`` has the loss of half MAE, half MS-DSSIM; ``wide`` four times the weights, no dropout and inputs as they are, and
``wide_half`` that loss too; ``monai`` is a MONAI U-Net, trained on the same crops with the same optimiser by
MAE, without averaged weights.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from lamella.core.box import Box
from lamella.infer import InferSettings
from lamella.io import open_volume
from lamella.recipe.find import load_recipe, parse_recipe, recipe_values
from lamella.recipe.recipe import Recipe
from lamella.recipe.train import prepare
from lamella.runs import RunFolder
from lamella.runs.folder import is_run
from lamella.tasks.translate.net import TranslateNet
from lamella.train.fit import fit

STAINS = ("DAPI", "MAP2", "NFH")
FLOOR = {"DAPI": (0.730, 0.586), "MAP2": (0.756, 0.583), "NFH": (0.407, 0.341)}
MIDDLE = 6  # the slice at which the stains are stored
_WIDE = ("data.depth=13", "task.net.features=[32,64,128,128]", "task.net.dropout=0", "task.imaging=[]")
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "2d": ("translate", ("data.depth=13",)),
    "25d": ("translate25d", ("data.depth=13",)),
    "3d": ("translate3d", ()),
    "half": ("translate", ("data.depth=13", "task.loss=half")),
    "wide": ("translate", _WIDE),
    "wide_half": ("translate", (*_WIDE, "task.loss=half")),
    "monai": ("translate", ("data.depth=13", "task.loss=mae", "task.net.norm=none", "trainer.average=null")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--methods", nargs="+", default=["2d"])
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cpu-seconds", type=float, default=3600)
    parser.add_argument("--mixed", action="store_true", help="score the mean of all methods and seeds, but MONAI's")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for method in args.methods:
        for seed in args.seeds:
            for fold in args.folds:
                row = one(args.data, args.out, method, fold, seed, args.cpu_seconds, args.changes)
                print(f"{method} fold {fold} seed {seed}: {told(row)}", flush=True)
                found[method].append(row)
        for fold in args.folds if len(args.seeds) > 1 else ():
            row = together(args.data, args.out, [(method, seed) for seed in args.seeds], fold)
            print(f"{method} fold {fold} together: {told(row)}", flush=True)
            found[f"{method} together"].append(row)
    members = [(method, seed) for method in args.methods if method != "monai" for seed in args.seeds]
    for fold in args.folds if args.mixed else ():
        row = together(args.data, args.out, members, fold)
        print(f"mixed fold {fold}: {told(row)}", flush=True)
        found["mixed"].append(row)
    for method, rows in found.items():
        print(f"{method} mean of {len(rows)}: {told({k: float(np.mean([r[k] for r in rows])) for k in rows[0]})}")


def told(row: dict[str, float]) -> str:
    scores = (f"{s} {row[f'{s} pearson']:.3f} / {row[f'{s} ssim']:.3f}" for s in STAINS)
    return f"{'  '.join(scores)}  ({row['cpu_seconds']:.0f} CPU-s, {row['steps']:.0f} steps)"


def one(
    data: str, out: Path, method: str, fold: int, seed: int, budget: float, changes: Sequence[str]
) -> dict[str, float]:
    """Train and score one fold, or read what it gave before."""
    file, run = places(out, method, fold, seed)
    if not file.exists():
        recipe = make_recipe(data, method, fold, seed, changes)
        if not is_run(run) or RunFolder(run).state() not in ("finished", "stopped"):
            steps = int(budget / seconds_per_step(recipe, method, out / "timing"))
            train(recipe.model_copy(update={"trainer": longer(recipe, steps)}), method, run, resume=is_run(run))
        record(file, score(data, [run], fold, method), [run])
    return dict(json.loads(file.read_text()))


def together(data: str, out: Path, members: Sequence[tuple[str, int]], fold: int) -> dict[str, float]:
    """Score the mean of the nets of methods with seeds, or read what it gave before."""
    runs = [places(out, method, fold, seed)[1] for method, seed in members]
    file = out / f"{'+'.join(run.name for run in runs)}.json"
    if not file.exists():
        record(file, score(data, runs, fold, members[0][0]), runs)
    return dict(json.loads(file.read_text()))


def places(out: Path, method: str, fold: int, seed: int) -> tuple[Path, Path]:
    """Where the scores and the run of one training are."""
    name = f"{method}_f{fold}_s{seed}"
    return out / f"{name}.json", out / "runs" / name


def record(file: Path, scores: dict[str, float], runs: Sequence[Path]) -> None:
    spent = [RunFolder(run).provenance() for run in runs]
    file.parent.mkdir(parents=True, exist_ok=True)
    cost = {"cpu_seconds": sum(f["cpu_seconds"] for f in spent), "steps": sum(f["step"] for f in spent)}
    file.write_text(json.dumps({**scores, **cost}))


def make_recipe(data: str, method: str, fold: int, seed: int, changes: Sequence[str]) -> Recipe:
    """The recipe of a method for the positions other than ``fold``."""
    base, _, depth = method.partition("-")
    shipped, own = METHODS[base]
    others = [f"p{p:03d}" for p in range(4) if p != fold]
    given = [
        f"data.sources=[{{path: {data}, positions: [{', '.join(others)}]}}]",
        "data.inputs=[0]",
        "data.targets=[1, 2, 3]",
        "data.split=null",
        "validation=null",
        "trainer.best=[]",
        "trainer.device=cpu",
        "trainer.threads=1",
        "trainer.graph=false",
        "trainer.panels_every=0",
        f"seed={seed}",
    ]
    deeper = [f"data.depth={depth}"] if depth else []
    return parse_recipe(recipe_values(shipped, [*given, *own, *deeper, *changes]), method).settled()


def longer(recipe: Recipe, steps: int) -> Any:
    return recipe.trainer.model_copy(update={"steps": steps, "log_every": max(steps // 50, 1)})


def seconds_per_step(recipe: Recipe, method: str, place: Path) -> float:
    """CPU time of a step, without the first two, in which memory is laid out."""
    times = []
    for number, steps in enumerate((2, 12)):
        began = time.process_time()
        train(
            recipe.model_copy(update={"trainer": longer(recipe, steps)}),
            method,
            place / f"{method}{number}",
            again=True,
        )
        times.append(time.process_time() - began)
    return (times[1] - times[0]) / 10


def train(recipe: Recipe, method: str, path: Path, *, resume: bool = False, again: bool = False) -> None:
    training = prepare(recipe)
    if method == "monai":
        replace_net(training.task)
    run = RunFolder(path)
    if not resume:
        run = RunFolder.create(path.name, recipe.to_dict(), runs=path.parent, overwrite=again, seed=recipe.seed)
    fit(training.task, training.samples, run, recipe.trainer, seed=recipe.seed, resume=resume)


class Monai(torch.nn.Module):
    """MONAI's U-Net with what lamella asks a net for."""

    def __init__(self, channels: int, outputs: int) -> None:
        from monai.networks.nets import UNet

        super().__init__()
        self.net = UNet(2, channels, outputs, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
        self.in_channels, self.out_channels = channels, outputs
        self.stride, self.context, self.margin, self.seamless = (16, 16), (128, 128), (0, 0), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def replace_net(task: Any) -> None:
    """Give a task MONAI's U-Net, at its defaults, in the place of its own."""
    own: TranslateNet = task.net
    torch.manual_seed(0)
    monai = Monai(own.in_channels, own.out_channels)
    monai.config = own.net.config  # type: ignore[assignment]
    own.net = monai  # type: ignore[assignment]


def score(data: str, runs: Sequence[Path], fold: int, method: str) -> dict[str, float]:
    """Pearson's r and SSIM of each stain at the position that was left out."""
    predicted = predict(data, runs, fold, method)
    if len(runs) == 1:
        np.save(runs[0] / "predicted.npy", predicted)
    found = {}
    for k, stain in enumerate(STAINS):
        low, high = scale(data, [p for p in range(4) if p != fold], k + 1)
        true = np.clip((frame(data, fold, k + 1) - low) / (high - low), 0, 1)
        found[f"{stain} pearson"] = float(np.corrcoef(predicted[k].ravel(), true.ravel())[0, 1])
        found[f"{stain} ssim"] = float(structural_similarity(predicted[k], true, data_range=1.0))
    return found


def predict(data: str, runs: Sequence[Path], fold: int, method: str) -> NDArray[np.float32]:
    """The stains (3, y, x) at the slice at which they are stored, from 0 to 1; averaged over turned copies."""
    from lamella.recipe.translator import load_translator

    settings = InferSettings(precision="float32", flips=True, rotations=True)
    if method == "monai":
        return np.asarray(np.mean([predict_monai(data, run, fold) for run in runs], 0))
    translator, _ = load_translator(",".join(map(str, runs)), settings, device="cpu")
    volume = open_volume(data, dataset=f"p{fold:03d}")
    view, channels = translator.view(volume), translator.channels(volume)
    op: Any = translator.op
    image = view.read(view.box)[0][list(channels)]
    reach = translator.depth // 2
    window = image[:, MIDDLE - reach : MIDDLE + reach + 1].reshape(-1, *image.shape[2:])
    if translator.net.ndim == 3:
        return np.clip(op(image)[:, MIDDLE], 0, 1)
    return np.clip(op.op(window), 0, 1)


def predict_monai(data: str, run: Path, fold: int) -> NDArray[np.float32]:
    from lamella.train.checkpoints import read_checkpoint, weights

    recipe = load_recipe(run)
    training = prepare(recipe)
    replace_net(training.task)
    net = training.task.net
    net.load_state_dict(weights(read_checkpoint(RunFolder(run).checkpoint("last"))))
    net.eval()
    volume = open_volume(data, dataset=f"p{fold:03d}")
    view = recipe.data.preprocessing.view(volume)  # type: ignore[union-attr]
    with torch.inference_mode():
        found = net(torch.from_numpy(view.read(view.box)[:, 0]))[0].numpy()
    return np.clip(found, 0, 1)


def scale(data: str, positions: Sequence[int], channel: int) -> tuple[float, float]:
    """What becomes 0 and 1."""
    low, high = np.percentile(np.stack([frame(data, p, channel) for p in positions]), [1, 99.9])
    return float(low), float(high)


def frame(data: str, position: int, channel: int) -> NDArray[np.float32]:
    volume = open_volume(data, dataset=f"p{position:03d}")
    (y, x) = volume.box.shape[3:]
    return volume.read(Box((0, channel, MIDDLE, 0, 0), (1, channel + 1, MIDDLE + 1, y, x)))[0, 0, 0].astype(np.float32)


if __name__ == "__main__":
    main()
