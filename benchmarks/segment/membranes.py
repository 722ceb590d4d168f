"""Neurites in electron micrographs: U-Net and DCAN trained on the same sections, scored as ISBI 2012 scores segmentations.

    python benchmarks/segment/membranes.py DATA OUT --net unet
    python benchmarks/segment/membranes.py DATA OUT --net dcan

DATA has 30 sections as ``image/NN.png`` and ``label/NN.png`` (0 membrane, 255 inside). Sections 0 to 17 train the net, on 18 to 23
the parameters of the instances are chosen, 24 to 29 are scored: variation of information and adapted Rand error over the voxels
that are no membrane in the truth, with instances grown until they meet, as the mean over sections.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import imageio.v3 as iio
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels

from lamella.infer import NetOp
from lamella.ops.instances import Basins, DistanceWatershed, Membranes, Method
from lamella.ops.matching import Overlaps
from lamella.ops.matching_partition import partition_figures
from lamella.recipe.find import load_recipe
from lamella.recipe.load import load_run
from lamella.recipe.train import train

Maps = Mapping[str, NDArray[np.float32]]
TRAIN, CHOOSE, TEST = range(18), range(18, 24), range(24, 30)
FIGURES = ("foreground_voi_split", "foreground_voi_merge", "foreground_voi", "foreground_adapted_rand_error")
NETS = {
    "unet": [],
    "dcan": [
        "task.net={kind: dcan, features: [32, 64, 96, 128, 128, 192], convs: 2, dropout: 0.2}",
        "task.heads=[objects, boundaries]",
        "task.instances={kind: membranes}",
        "data.crop=272",
        "task.trim=0.7059",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--net", choices=sorted(NETS), default="unet")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = {
        "path": str(args.data / "image"),
        "labels": str(args.data / "label"),
        "names": [f"{k:02d}" for k in TRAIN],
        "components": True,
    }
    changes = [
        f"data.sources=[{json.dumps(source)}]", "data.objects=0", "task.small_weight=0", f"seed={args.seed}", f"trainer.steps={args.steps}",
        "trainer.threads=1", "trainer.device=cpu", "trainer.panels_every=0", *NETS[args.net],
    ]  # fmt: skip
    run, _ = train(load_recipe("segment", changes), f"membranes_{args.net}", runs=args.out, resume=True)
    loaded = load_run(run.path, task="segment")
    net: Any = loaded.task.net
    data: Any = loaded.recipe.data
    op = NetOp(net, lambda image: image)

    def maps(image: NDArray[Any]) -> Maps:
        return dict(zip(net.heads, op(data.normaliser.measure(image[None])(image[None])), strict=True))

    held_out = [(maps(image), truth) for image, truth in sections(args.data, CHOOSE)]
    method = min(methods(args.net), key=lambda m: score(m, held_out)["foreground_voi"])
    found = score(method, [(maps(image), truth) for image, truth in sections(args.data, TEST)])
    row = {
        "net": args.net,
        "parameters": sum(p.numel() for p in net.parameters()),
        "cpu_seconds": run.provenance()["cpu_seconds"],
        "chosen": repr(method),
        **found,
    }
    print(json.dumps(row, indent=2))
    (args.out / f"membranes_{args.net}.json").write_text(json.dumps(row, indent=2))


def sections(data: Path, numbers: Sequence[int]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Image and neurites (connected regions inside membranes) of each section."""
    for number in numbers:
        image, inside = (iio.imread(data / kind / f"{number:02d}.png") for kind in ("image", "label"))
        yield image, ndimage.label(inside > 0)[0]


def methods(net: str) -> list[Method]:
    """What may be chosen."""
    found: list[Method] = [
        Membranes(threshold=t, smooth=s, merge=m).build()
        for t, s, m in product((0.3, 0.4, 0.5, 0.6), (0.0, 1.0, 2.0), (0.4, 0.5, 0.6, 0.7, 0.8))
    ]
    if net == "unet":
        found += [
            Basins(threshold=t, smooth=s, merge=m, min_size=50).build()
            for t, s, m in product((0.3, 0.5), (2.0, 3.0), (0.5, 0.6, 0.7, 0.8))
        ]
    found += [
        DistanceWatershed(threshold=t, boundaries="none", smooth=s, suppress=p, min_size=50).build()
        for t, s, p in product((0.4, 0.5, 0.6), (1.0, 2.0), (7, 15, 25))
    ]
    return found


def score(method: Method, pairs: Sequence[tuple[Maps, NDArray[Any]]]) -> dict[str, float]:
    """The mean figures of grown instances."""
    rows = [partition_figures(Overlaps.of(truth, neurites(method, maps))) for maps, truth in pairs]
    return {name: float(np.mean([row[name] for row in rows])) for name in FIGURES}


def neurites(method: Method, maps: Maps) -> NDArray[np.int32]:
    """Instances that fill the section; a membrane is what is not inside."""
    return expand_labels(method({**maps, "boundaries": 1 - maps["objects"]}), 30)


if __name__ == "__main__":
    main()
