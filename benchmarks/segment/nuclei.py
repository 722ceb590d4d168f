"""Nuclei from little: train on 32 images in 540 CPU-seconds on one thread, choose thresholds on these and 8 more, find the nuclei of 20.

    python benchmarks/segment/nuclei.py DATA OUT --seeds 0 1 2

DATA is a folder with ``train``, ``val`` and ``test``, each with ``images`` and ``masks``, and ``bench_split.json`` with the names of
the three parts. All times are CPU time of this process (``time.process_time``), so that a busy machine changes nothing. For each
seed OUT gets the run, the predicted labels and the figures; a table with mean and spread is printed at the end. Training that is
there already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from lamella.infer import InferSettings, NetOp
from lamella.io import open_volume
from lamella.ops.instances import Basins, Method
from lamella.ops.matching import Overlaps
from lamella.ops.matching_scores import ObjectScores, compare, match
from lamella.recipe.find import load_recipe
from lamella.recipe.load import load_run
from lamella.recipe.train import train
from lamella.runs import RunFolder
from lamella.runs.folder import is_run
from lamella.tasks.segment.baseline import otsu_instances
from lamella.tasks.segment.evaluate_objects import Outcome
from lamella.tasks.segment.evaluate_sizes import SizeClasses

Maps = Mapping[str, NDArray[np.float32]]
GRID = {
    "threshold": (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "smooth": (1.0, 1.5, 2.0),
    "merge": (0.8, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95),
    "valleys": (1.0,),
}
MIN_SIZES = (
    8,
    12,
    16,
)  # the smallest object that is labelled in train or val has 20 pixels; val alone has few small ones
SHOWN = ("AP50_img", "AP50_pool", "mAP_img", "mAP_pool", "AP75_pool", "F1", "SEG")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2800, help="steps that fit into the CPU time on this machine")
    parser.add_argument("--cpu-seconds", type=float, default=540)
    parser.add_argument(
        "--all",
        action="store_true",
        help="train on all of train, choose thresholds on all of val, and score all of test too",
    )
    parser.add_argument("--flips", action="store_true", help="average maps over four mirrored copies")
    parser.add_argument("change", nargs="*", help="changes of the recipe, KEY=VALUE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [one_seed(args, seed) for seed in args.seeds]
    tell(rows)
    (args.out / "figures.json").write_text(json.dumps(rows, indent=2))


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, choose thresholds, predict and score with one seed."""
    name = f"nuclei_{seed}"
    cpu = trained(args, name, seed)
    run = load_run(name, runs=args.out, task="segment")
    net: Any = run.task.net
    op = NetOp(net, lambda image: image, settings=InferSettings(flips=args.flips))
    data: Any = run.recipe.data

    def maps(image: NDArray[Any]) -> Maps:
        scaled = data.normaliser.measure(image[None])(image[None])
        return dict(zip(net.heads, op(scaled), strict=True))

    parts = ("val",) if args.all else ("train", "val")  # so few images that val alone would be chance
    chosen = choose((maps(image), labels) for part in parts for _, image, labels in images(args, part))
    method = chosen.build()
    test = list(images(args, "test"))
    method(maps(test[0][1]))  # once, so that the net is ready
    began = time.process_time()
    found = {name: method(maps(image)) for name, image, _ in test}
    speed = sum(image.size for _, image, _ in test) / 1e6 / (time.process_time() - began)
    write(args.out / f"labels_{seed}", found)
    pairs = [(labels, found[name]) for name, _, labels in test]
    otsu = [(labels, otsu_instances(image)) for _, image, labels in test]
    return {
        "seed": seed,
        **figures(pairs),
        "mpx_per_cpu_second": speed,
        "cpu_seconds": cpu,
        "parameters": sum(p.numel() for p in net.parameters()),
        "chosen": chosen.to_dict(),
        "sizes": SizeClasses.of(outcomes(pairs)).beside(SizeClasses.of(outcomes(otsu))),
        "otsu": figures(otsu),
        **({"whole_test": whole_test(args, maps, method)} if args.all else {}),
    }


def whole_test(
    args: argparse.Namespace, maps: Callable[[NDArray[Any]], Maps], method: Method
) -> dict[str, dict[str, float]]:
    """Figures of all images of the folder ``test``, of the method and of Otsu."""
    test = list(images(args, "whole test"))
    found = figures([(labels, method(maps(image))) for _, image, labels in test])
    return {"found": found, "otsu": figures([(labels, otsu_instances(image)) for _, image, labels in test])}


def trained(args: argparse.Namespace, name: str, seed: int) -> float:
    """Train unless it is done; returns the CPU time that it took."""
    if is_run(args.out / name) and RunFolder.open(args.out / name).provenance().get("state") in ("finished", "stopped"):
        return float(RunFolder.open(args.out / name).provenance()["cpu_seconds"])
    source = {"path": str(args.data / "train")}
    if not args.all:
        source["names"] = f"{args.data / 'bench_split.json'}:train"
    changes = [
        f"data.sources=[{json.dumps(source)}]", f"seed={seed}", f"trainer.steps={args.steps}", "trainer.threads=1",
        "trainer.device=cpu", "trainer.panels_every=0", "trainer.log_every=200", "trainer.checkpoint_every=500",
        f"trainer.max_cpu_seconds={args.cpu_seconds}", *args.change,
    ]  # fmt: skip
    run, _ = train(load_recipe("segment", changes), name, runs=args.out, resume=True)
    return float(run.provenance()["cpu_seconds"])


def images(args: argparse.Namespace, part: str) -> Iterable[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Name, image and labels of each image of a part, in order of their names."""
    names = json.loads((args.data / "bench_split.json").read_text()).get(part)
    if names is None or (args.all and part == "val"):
        names = [p.stem for p in (args.data / part.removeprefix("whole ") / "images").iterdir()]
    for name in sorted(names):
        folder = next(f for f in ("train", "val", "test") if (args.data / f / "images" / f"{name}.tif").exists())
        yield (name, *(read(args.data / folder / kind / f"{name}.tif") for kind in ("images", "masks")))


def read(path: Path) -> NDArray[Any]:
    volume = open_volume(str(path))
    return volume.read(volume.box)


def write(folder: Path, labels: Mapping[str, NDArray[np.int32]]) -> None:
    """Labels as TIFF, for other programs to score."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in labels.items():
        tifffile.imwrite(folder / f"{name}.tif", array.astype(np.uint16), compression="zlib")


def choose(pairs: Iterable[tuple[Maps, NDArray[Any]]]) -> Basins:
    """The parameters with the best mean of AP at 0.5 and 0.75 (pooled) and mAP (by image)."""
    pairs = list(pairs)
    best: tuple[float, Basins] | None = None
    for values in product(*GRID.values()):
        config = Basins(**dict(zip(GRID, values, strict=True)), min_size=0)  # type: ignore[arg-type]
        method = config.build()
        found = [method(maps) for maps, _ in pairs]
        for least in MIN_SIZES:
            scores = figures([(labels, larger(f, least)) for (_, labels), f in zip(pairs, found, strict=True)])
            worth = scores["AP50_pool"] + scores["AP75_pool"] + scores["mAP_img"]
            if best is None or worth > best[0]:
                best = worth, config.model_copy(update={"min_size": least})
    assert best is not None
    return best[1]


def larger(labels: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    return labels * (np.bincount(labels.ravel()) >= least)[labels]


def figures(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, float]:
    """The benchmark's figures: ``_img`` the mean over images, ``_pool`` of all objects together."""
    scores = [ObjectScores.of(compare(Overlaps.of(true, found))) for true, found in pairs]
    ap = np.array([s.ap for s in scores])
    pooled = scores[0]
    for other in scores[1:]:
        pooled = pooled + other
    all_together = pooled.figures()
    return {
        "AP50_img": float(ap[:, 0].mean()),
        "AP50_pool": all_together["AP50"],
        "mAP_img": float(ap.mean()),
        "mAP_pool": all_together["mAP"],
        "AP75_pool": all_together["AP75"],
        "F1": all_together["F1"],
        "SEG": all_together["SEG"],
        "true": all_together["true"],
        "predicted": all_together["predicted"],
    }


def outcomes(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> list[Outcome]:
    """What became of each object at an IoU of 0.5."""
    compared = [compare(Overlaps.of(true, found)) for true, found in pairs]
    return [Outcome.of(c, match(c, 0.5)) for c in compared]


def tell(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of the seeds, with mean and spread, and the size classes of each."""
    names = (*SHOWN, "mpx_per_cpu_second", "cpu_seconds")
    print("seed   " + "".join(f"{name:>20s}" for name in names))
    for row in rows:
        print(f"{row['seed']:<7d}" + "".join(f"{row[name]:20.4f}" for name in names))
    values = np.array([[row[name] for name in names] for row in rows])
    for label, line in (("mean", values.mean(0)), ("std", values.std(0, ddof=min(len(rows) - 1, 1)))):
        print(f"{label:7s}" + "".join(f"{value:20.4f}" for value in line))
    print("otsu   " + "".join(f"{rows[0]['otsu'][name]:20.4f}" for name in SHOWN))
    for row in rows:
        print(f"seed {row['seed']}, chosen {row['chosen']}")
        for who, scores in row.get("whole_test", {}).items():
            print(f"  all of test, {who:6s}" + "".join(f"{name} {scores[name]:.4f}  " for name in SHOWN))
        for size in row["sizes"]:
            print(
                f"  {size['area']:>14s} px: {size['true']:4d} objects, AP50 {size['AP']:.3f}, Otsu {size['baseline AP']:.3f}"
            )


if __name__ == "__main__":
    main()
