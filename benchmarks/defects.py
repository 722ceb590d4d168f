"""How well a detector of defects finds damage that was put into sections it has not seen.

    python benchmarks/defects.py DATA OUT.json [--run RUN] [--cpu-seconds 480]

DATA holds em_vnc/raw (sections 0 to 11 to learn from, 12 to 19 held out) and em_isbi2012/image (0 to 19, 20 to 29). Without --run a
detector is trained first, on one thread, for that much CPU time. Damage is drawn with seeds of its own, each kind alone, one drawing for
each held-out section, and found as ``lamella defects`` finds it. The table has precision, recall and Dice over all pixels, of each kind
as such and of any kind, and how many pixels of the sections as they are were taken for damage.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.core.rng import stream
from lamella.data.augment import Augment, Blackout, Crack, Debris, Fold, Rift, Wrinkle
from lamella.data.sample import Layer, Sample
from lamella.io import open_volume
from lamella.recipe.detector import load_detector
from lamella.recipe.find import load_recipe
from lamella.recipe.train import train
from lamella.tasks.defects.detector import Detector
from lamella.tasks.defects.masks import MaskConfig
from lamella.tasks.defects.settings import FindSettings

torch.set_num_threads(1)
SETS = {"em_vnc/raw": (12, 20), "em_isbi2012/image": (20, 30)}  # folder: first held-out section, and number of all
SEED = 5000  # of the damage that is looked for; training draws from seed 0
SIDE = 512  # the held-out sections' middle, so that both data sets weigh about the same
DAMAGE: dict[str, tuple[str, Augment]] = {
    "rift": ("crack", Rift(p=1)),
    "crack": ("crack", Crack(p=1)),
    "wrinkle": ("fold", Wrinkle(p=1)),
    "fold": ("fold", Fold(p=1)),
    "debris": ("cover", Debris(p=1)),
    "bare": ("cover", Debris(p=1, most=1, radius=(40.0, 150.0), fills=("dark", "light", "grey"))),
    "blackout": ("cover", Blackout(p=1)),
}


def trained(data: Path, out: Path, seconds: float) -> str:
    """The folder of a detector that has learnt from the first sections of both sets."""
    sources = ",".join(f"{{path: {data / name}, z: '0:{first}'}}" for name, (first, _) in SETS.items())
    trainer = ["steps=1000", "threads=1", "device=cpu", "precision=bf16-mixed", f"max_cpu_seconds={seconds}"]
    changes = [f"data.sources=[{sources}]", "data.crop=272", *(f"trainer.{change}" for change in trainer)]
    run, _ = train(load_recipe("defects", changes), out.stem, runs=out.parent / "runs", overwrite=True)
    return str(run.path)


def held_out(data: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, (first, stop) in SETS.items():
        volume = open_volume(data / name)
        for z in range(first, stop):
            section = volume.read(volume.box)[z]
            corner = [(n - SIDE) // 2 for n in section.shape]
            yield f"{name} {z}", section[tuple(slice(c, c + SIDE) for c in corner)]


def found(detector: Detector, section: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """What is found in a normalised section: each kind as such, and what masks call inside, without specks."""
    method = detector.method
    maps = dict(zip(method.needs, detector.op()(section[None, None])[:, 0], strict=True))
    return {kind: method.inside_of(kind, maps[kind]) for kind in method.kinds} | {"any": method(maps) > 0}


def damaged(section: NDArray[np.float32], each: Augment, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    sample = Sample({"sections": Layer(torch.from_numpy(section)[None, None], "image")})
    after = each(sample, stream(SEED, each.kind, number))
    return after["sections"].tensor[0, 0].numpy(), (after["masks"].tensor[0, 0] == 2).numpy()


def counts(true: NDArray[np.bool_], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels that are found, found in vain, and missed."""
    return np.array([(true & seen).sum(), (~true & seen).sum(), (true & ~seen).sum()])


def scores(hits: int, false: int, missed: int) -> dict[str, float]:
    return {
        "precision": hits / max(hits + false, 1),
        "recall": hits / max(hits + missed, 1),
        "dice": 2 * hits / max(2 * hits + false + missed, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--cpu-seconds", type=float, default=480)
    args = parser.parse_args()
    run = args.run or trained(args.data, args.out, args.cpu_seconds)
    settings = FindSettings.load(MaskConfig().to_dict())  # those of this version, whatever the run's recipe says
    detector = load_detector(run, settings, device="cpu")[0]
    sums = {(name, what): np.zeros(3, np.int64) for name in DAMAGE for what in ("as such", "any")}
    clean: dict[str, float] = {}
    for number, (place, raw) in enumerate(held_out(args.data)):
        section = detector.normalise(raw)
        clean[place] = float(found(detector, section)["any"].mean())
        for name, (kind, each) in DAMAGE.items():
            image, true = damaged(section, each, number)
            seen = {
                what: mask & (image > 0) for what, mask in found(detector, image).items()
            }  # a fold leaves empty rims
            sums[name, "as such"] += counts(true, seen[kind])
            sums[name, "any"] += counts(true, seen["any"])
    rows = {f"{name}, {what}": scores(*total.tolist()) for (name, what), total in sums.items()}
    args.out.write_text(json.dumps({"run": run, "scores": rows, "clean": clean}, indent=1) + "\n")
    for name, row in rows.items():
        print(f"{name:20s} " + " ".join(f"{k} {v:.3f}" for k, v in row.items()))
    for name in SETS:
        shares = [share for place, share in clean.items() if place.startswith(name)]
        print(f"clean {name}: {100 * np.mean(shares):.3f} % of pixels, the worst section {100 * max(shares):.3f} %")


if __name__ == "__main__":
    main()
