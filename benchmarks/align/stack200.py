"""A long stack whose true fields are known, aligned one section after the other, by votes, and jointly: does the error grow?

    python benchmarks/align/stack200.py RUN OUT.json [--source VOLUME] [--sections 200] [--jitter 8 16] [--methods sequence vote joint]

The tissue changes slowly from section to section but does not move: it is a random texture of membranes, or, with --source, sections of a
volume that fade into each other. Every section but the first is then deformed by a smooth field of its own, shifted, and given its
own contrast and noise. One section is lost, one folded, one cracked. So the field that undoes this is the truth, and a method's error
is its distance from that, everywhere but at the rim and where tissue is hidden. The table has the mean over sections of the error's
median and 95th percentile, the same for the first and last third, and for the sections behind the damaged ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.rng import stream
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.field import compose, invert, rescale, smooth_field, warp
from lamella.recipe.aligner import load_estimator
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume

torch.set_num_threads(1)
Image = NDArray[np.float32]
PERSISTENCE = 12  # sections over which the tissue changes altogether
BORDER = 40  # pixels at the edges that are left out
CRACK, FOLD = 12, 16  # pixels


@dataclass(frozen=True)
class Stack:
    """Sections (z, y, x), the true fields (z, 2, y, x), and where tissue is to be seen."""

    sections: NDArray[np.uint8]
    truth: NDArray[np.float32]
    seen: NDArray[np.bool_]
    damaged: dict[str, int]


def textures(rng: np.random.Generator, size: int) -> Iterator[Image]:
    """Unrelated images of dark membranes on grey cytoplasm with darker bodies, of zero mean and unit variance."""
    while True:
        cells = ndi.gaussian_filter(rng.standard_normal((size, size)), 9, mode="wrap")
        bodies = ndi.gaussian_filter(rng.standard_normal((size, size)), 4, mode="wrap")
        grain = ndi.gaussian_filter(rng.standard_normal((size, size)), 1.5, mode="wrap")
        image = -2.0 * np.exp(-((cells / cells.std() / 0.12) ** 2)) - (bodies > 1.3 * bodies.std())
        yield _standard(image + 0.4 * grain / grain.std())


def sections_of(path: str, size: int) -> Iterator[Image]:
    """Sections of a volume, cut to the middle, over and over; each turned differently."""
    volume = open_volume(path)
    corner = [(a + b - size) // 2 for a, b in zip(volume.box.start[1:], volume.box.stop[1:], strict=True)]
    turn = 0
    while True:
        for z in range(volume.box.start[0], volume.box.stop[0]):
            box = Box((z, *corner), (z + 1, *(c + size for c in corner)))
            yield _standard(np.rot90(volume.read(box)[0], turn % 4).astype(np.float32))
            turn += 1


def _standard(image: NDArray[Any]) -> Image:
    return ((image - image.mean()) / image.std()).astype(np.float32)


def tissue(keys: Iterator[Image], num: int) -> Iterator[Image]:
    """Sections that fade from each image to the next, in [0, 1]."""
    first, second = next(keys), next(keys)
    for z in range(num):
        if z and z % PERSISTENCE == 0:
            first, second = second, next(keys)
        angle = np.pi / 2 * (z % PERSISTENCE) / PERSISTENCE
        yield np.clip(0.55 + 0.16 * (np.cos(angle) * first + np.sin(angle) * second), 0.05, 1).astype(np.float32)


def make_stack(keys: Iterator[Image], num: int, size: int, jitter: float, seed: int = 0) -> Stack:
    """The stack; damage lies in the second half of the first third, where it can do harm to all that follows."""
    damaged = {"lost": num // 5, "folded": num // 5 + num // 10, "cracked": num // 5 + num // 5}
    sections, truth, seen = [], [], []
    for z, whole in enumerate(tissue(keys, num)):
        rng = stream(seed, "stack200", z)
        image, field, visible = whole, np.zeros((2, size, size), np.float32), np.ones((size, size), bool)
        if z == damaged["folded"]:
            image, field, visible = torn(image, -FOLD, rng)
        if z == damaged["cracked"]:
            image, field, visible = torn(image, CRACK, rng)
        if z:
            image, field = jittered(image, field, jitter, rng)
        shown = photographed(image, rng)
        lost = z == damaged["lost"]
        sections.append(np.zeros_like(shown) if lost else shown)
        truth.append(field)
        seen.append(visible & ~np.full_like(visible, lost))
    return Stack(np.stack(sections), np.stack(truth), np.stack(seen), damaged)


def torn(image: Image, width: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32], NDArray[np.bool_]]:
    """The image pulled apart by ``width`` pixels along a wavy seam, or pushed over itself if that is negative."""
    size = len(image)
    seam = size / 2 + 0.05 * size * ndi.gaussian_filter1d(rng.standard_normal(size), 12, mode="wrap") * 5
    x = np.broadcast_to(np.arange(size, dtype=np.float32), (size, size))
    side = np.where(x < seam[:, None], -1, 1)
    field = np.stack([np.zeros_like(x), side * width / 2]).astype(np.float32)
    image = _warped(image, np.stack([np.zeros_like(x), -field[1]]).astype(np.float32))
    near = np.abs(x - seam[:, None])
    if width > 0:
        return np.where(near <= width / 2, 0.05, image).astype(np.float32), field, np.ones_like(near, bool)
    return np.where(near <= 4, 0.3 * image, image).astype(np.float32), field, near > -width / 2


def jittered(image: Image, field: NDArray[np.float32], most: float, rng: np.random.Generator) -> tuple[Image, Any]:
    """The image deformed and shifted, and the field that leads to it behind ``field``."""
    moved = smooth_field(rng, image.shape, most, 5 * most + 40)
    moved = moved + torch.from_numpy(rng.uniform(-4, 4, 2).astype(np.float32)).view(1, 2, 1, 1)
    total = compose(moved, torch.from_numpy(field)[None])
    return _warped(image, invert(moved)[0].numpy()), total[0].numpy()


def photographed(image: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """With a contrast, shading and noise of its own; never 0, which is missing."""
    shade = ndi.zoom(rng.standard_normal((4, 4)), len(image) / 4, order=3)
    image = np.clip(image, 0.01, 1) ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.1) + 0.04 * shade
    image = image + rng.normal(0, rng.uniform(0.03, 0.06), image.shape)
    return np.clip(np.rint(255 * image), 1, 255).astype(np.uint8)


def _warped(image: Image, field: NDArray[np.float32]) -> Image:
    found = warp(torch.from_numpy(image)[None, None], torch.from_numpy(field)[None], "bicubic", "reflection")
    return found[0, 0].numpy()


def fields_of(stack: Stack, estimator: Estimator, settings: AlignSettings) -> NDArray[np.float32]:
    """The fields (z, 2, y, x) that a method finds."""
    with tempfile.TemporaryDirectory() as folder:
        path, box = f"{folder}/stack.ome.zarr", Box.of(stack.sections.shape)
        create_volume(path, box=box, dtype="uint8", meta=Meta.plain("zyx"))[0].write(box, stack.sections)
        executor = Executor(workers=1)
        paths = align_volume(open_volume(path), f"{folder}/out.ome.zarr", estimator, settings, executor=executor)
        stored = open_volume(paths.fields)
        coarse = torch.from_numpy(stored.read(stored.box)).movedim(0, 1)
    return rescale(coarse, estimator.fine_levels, (box.shape[1], box.shape[2])).numpy()


def scores(stack: Stack, fields: NDArray[np.float32]) -> list[dict[str, float]]:
    """For each section but the first and the lost one: the error's median and 95th percentile in pixels."""
    inner = np.zeros(stack.seen.shape[1:], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    rows = []
    for z in range(1, len(fields)):
        seen = stack.seen[z] & inner
        if seen.any():
            error = np.hypot(*(fields[z] - stack.truth[z]))[seen]
            rows.append({"z": z, "med": float(np.median(error)), "p95": float(np.percentile(error, 95))})
    return rows


def summary(rows: list[dict[str, float]], num: int, damaged: dict[str, int]) -> dict[str, float]:
    """Means over sections: of all, of the first and last third, and of the section behind each kind of damage."""

    def mean(key: str, low: int, high: int) -> float:
        return float(np.mean([r[key] for r in rows if low <= r["z"] < high] or [np.nan]))

    found = {"med": mean("med", 0, num), "p95": mean("p95", 0, num), "first": mean("med", 0, num // 3)}
    found["last"] = mean("med", num - num // 3, num)
    for what, z in damaged.items():
        found[f"behind_{what}"] = mean("med", z + 1, z + 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", help="volume whose sections fade into each other, in place of a texture")
    parser.add_argument("--sections", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--jitter", type=float, nargs="+", default=[8, 16])
    parser.add_argument("--methods", nargs="+", default=["sequence", "vote", "joint"])
    parser.add_argument("--joint", type=json.loads, default={}, help="settings of vote and joint as JSON")
    args = parser.parse_args()
    results = []
    for jitter in args.jitter:
        rng = stream(0, "stack200", "texture")
        keys = textures(rng, args.size) if args.source is None else sections_of(args.source, args.size)
        stack = make_stack(keys, args.sections, args.size, jitter)
        for method in args.methods:
            settings = AlignSettings.load(
                {"method": method, "joint": {} if method == "sequence" else args.joint, "chain": None}
            )
            estimator = load_estimator(args.run, settings, device="cpu")[0]
            start = time.process_time()
            rows = scores(stack, fields_of(stack, estimator, settings))
            found = summary(rows, args.sections, stack.damaged)
            cpu = time.process_time() - start
            results.append({"jitter": jitter, "method": method, "cpu_s": cpu, **found, "sections": rows})
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            figures = "  ".join(f"{k} {v:.2f}" for k, v in found.items())
            print(f"{jitter:g} px {method:9s} {cpu:6.0f} CPU-s  {figures}", flush=True)


if __name__ == "__main__":
    main()
