"""Speed of aligners, beside what they replace: training pairs per second, and seconds for a megapixel with the error that it buys.

    python benchmarks/align_speed.py RUN SECTIONS [--threads 1 2] [--side 1024] [--steps 4] [--out FILE.json]

RUN is a run of the task align; of SECTIONS, a folder or volume, the middle section is deformed by a smooth field that is known (up to
8 pixels) and gets noise. Every method and number of threads has a process of its own, whose peak memory is told. Seconds are CPU
seconds of the process and, with several threads, of the wall too; the shortest of three is taken, and ratios are to DIS in the same run.

- ``default``, ``one way``: ``lamella align`` as it is, and with ``--no-symmetric``
- ``one look``: ``--passes 1 --no-flip --no-symmetric --refine.steps 0``
- ``fast``: the same at half the size (the next mip), the fields then taken to full size, as ``lamella render`` does
- ``plain net``: ``one look`` by the same weights in plain eager PyTorch: correlation by unfolding, memory laid out as it comes
- ``DIS``: OpenCV's, medium; ``demons``: SimpleITK's fast symmetric forces demons

Training: one batch, forward, loss, backward and step of the optimiser, of the recipe that RUN was trained with; and the same with the plain net.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.core.memory import keep_freed_memory
from lamella.core.rng import stream
from lamella.io import open_volume
from lamella.nets.aligner import Fields, SiamesePyramid
from lamella.ops.field import warp
from lamella.recipe.aligner import load_estimator
from lamella.recipe.find import load_recipe
from lamella.recipe.train import prepare
from lamella.tasks.align.settings import AlignSettings
from lamella.train.batches import collate

sys.path.insert(0, str(Path(__file__).parent / "align"))  # what is measured there

Pair = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
METHODS = ("DIS", "fast", "one look", "plain net", "one way", "default", "demons")
AMPLITUDE, SPACING, NOISE, BORDER, REPEATS = 8.0, 64.0, 8.0, 48, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("sections")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for threads in args.threads:
        dis: float | None = None
        for method in args.methods:
            row = alone(inference, args.run, args.sections, method, threads, args.side)
            dis = row["cpu_s_per_mpx"] if method == "DIS" else dis
            row["times_dis"] = row["cpu_s_per_mpx"] / dis if dis else None
            rows.append(row)
            print(told(row), flush=True)
        nets = [alone(training, args.run, args.sections, plain, threads, args.steps) for plain in (False, True)]
        for row in nets:
            row["times_plain"] = row["pairs_per_cpu_s"] / nets[1]["pairs_per_cpu_s"]
            print(told(row), flush=True)
        rows += nets
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


def told(row: dict[str, Any]) -> str:
    return "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if v is not None)


def alone(work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Do it in a process of its own, and tell the most memory that this took."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, *args).result()


def _measured(work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    keep_freed_memory()  # as lamella does
    found = work(*args)
    return {**found, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def inference(run: str, sections: str, method: str, threads: int, side: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    fixed, moving, truth = specimen(sections, side)
    pair = make(method, run, threads)
    field = pair(fixed, moving)
    cpu, wall = shortest(partial(pair, fixed, moving))
    inner = (slice(BORDER, -BORDER),) * 2
    error = np.hypot(*(field - truth))[inner]
    megapixels = fixed.size / 1e6
    return {
        "method": method,
        "threads": threads,
        "cpu_s_per_mpx": cpu / megapixels,
        "wall_s_per_mpx": wall / megapixels if threads > 1 else None,
        "error_median": float(np.median(error)),
        "error_p95": float(np.percentile(error, 95)),
        "size": "x".join(map(str, fixed.shape)),
    }


def shortest(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds, each the least of a few."""
    found = []
    for _ in range(REPEATS):
        begun = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    return min(c for c, _ in found), min(w for _, w in found)


def specimen(sections: str, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Two images, and the field (2, y, x) by which the second is to be looked up to match the first."""
    volume = open_volume(sections)
    z = volume.box.shape[0] // 2
    section = volume.read(volume.box)[z][:side, :side]
    rng = stream(0, "align_speed")
    noise = rng.standard_normal((2, *section.shape))
    field = np.stack([ndimage.gaussian_filter(n, SPACING) for n in noise])
    field = (field * (AMPLITUDE / np.hypot(*field).max())).astype(np.float32)
    fixed = warp(
        torch.from_numpy(section.astype(np.float32))[None, None], torch.from_numpy(field)[None], padding="border"
    )[0, 0]
    shown = [image + rng.normal(0, NOISE, section.shape) for image in (fixed.numpy(), section)]
    return *(np.clip(np.rint(image), 1, 255).astype(np.uint8) for image in shown), field  # type: ignore[return-value]


def make(method: str, run: str, threads: int) -> Pair:
    if method == "DIS":
        return dis(threads)
    if method == "demons":
        return demons(threads)
    from halved import ONE_LOOK, at_half

    values = {"default": {}, "one way": {"symmetric": False}}.get(method, ONE_LOOK)
    estimator = load_estimator(run, AlignSettings.load({**values, "tile": 4096}), device="cpu")[0]
    if method == "plain net":
        net = plain(estimator.net)
        return lambda fixed, moving: look(net, estimator.normalise(fixed), estimator.normalise(moving))
    if method == "fast":
        return lambda fixed, moving: at_half(estimator.pair, fixed, moving)
    return lambda fixed, moving: estimator.pair(moving, fixed)


def dis(threads: int) -> Pair:
    import cv2

    cv2.setNumThreads(threads)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda fixed, moving: flow.calc(fixed, moving, None)[..., ::-1].transpose(2, 0, 1).astype(np.float32)


def demons(threads: int) -> Pair:
    """As in ``align/classics.py``: three levels."""
    import classics

    classics.sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return classics.demons


class Plain(SiamesePyramid):
    """The same net with the correlation as autograd has it, by unfolding every neighbourhood."""

    def improve(self, level: int, source: Tensor, target: Tensor, field: Tensor) -> Tensor:
        aligner = self.aligners[str(level)]
        moved = sampled(source, field)
        seen = [moved, target]
        if radius := self.config.correlation:
            side = 2 * radius + 1
            near = F.unfold(F.normalize(moved, dim=1), side, padding=radius)
            b, c, h, w = moved.shape
            alike = (near.view(b, c, side * side, h, w) * F.normalize(target, dim=1)[:, :, None]).sum(1)
            seen += [alike, field - field.mean((-2, -1), keepdim=True)]
        residual = aligner.layers(torch.cat(seen, 1))
        return residual + sampled(field, residual, "border")

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        found: Fields = self.align(self.encode(source), self.encode(target))
        return F.interpolate(found[self.config.skip], target.shape[-2:], mode="bilinear") * 2**self.config.skip


def sampled(image: Tensor, field: Tensor, padding: str = "zeros") -> Tensor:
    """``image`` looked up through ``field``, by ``grid_sample``."""
    h, w = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    grid = torch.stack([(x + field[:, 1] + 0.5) * 2 / w - 1, (y + field[:, 0] + 0.5) * 2 / h - 1], -1)
    return F.grid_sample(image, grid, padding_mode=padding, align_corners=False)


def plain(net: SiamesePyramid) -> Plain:
    """A plain net of the same weights, its memory as it comes."""
    made = Plain(net.config)
    made.load_state_dict(net.state_dict())
    return made.to(memory_format=torch.contiguous_format).train(net.training)  # type: ignore[call-overload]


def look(net: nn.Module, fixed: NDArray[np.float32], moving: NDArray[np.float32]) -> NDArray[np.float32]:
    net.eval()
    with torch.no_grad():
        images = (torch.from_numpy(image)[None, None] for image in (moving, fixed))
        return np.asarray(net(*images)[0].numpy())


def training(run: str, sections: str, is_plain: bool, threads: int, steps: int) -> dict[str, Any]:
    """Pairs per second of steps on one batch that is ready."""
    torch.set_num_threads(threads)
    recipe = load_recipe(run, [f"data.sources=[{{path: {sections}}}]", "validation=null"])
    made = prepare(recipe)
    task: Any = made.task
    task.net.to(memory_format=torch.contiguous_format if is_plain else torch.channels_last).train()
    if is_plain:
        task.net = plain(task.net)
    task.phases(recipe.trainer.steps)
    samples = [made.samples[i] for i in range(recipe.trainer.batch_size)]
    batch = task.sample(collate(samples), stream(0, "batch"), training=True)
    optimiser = torch.optim.AdamW(task.net.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad()
        task.loss(batch, recipe.trainer.steps)["total"].backward()
        optimiser.step()

    step()
    cpu, wall = shortest(lambda: [step() for _ in range(steps)])
    pairs = steps * len(samples)
    return {
        "training": "plain net" if is_plain else "lamella",
        "threads": threads,
        "pairs_per_cpu_s": pairs / cpu,
        "pairs_per_wall_s": pairs / wall if threads > 1 else None,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "batch": "x".join(map(str, batch.shown.shape)),
    }


if __name__ == "__main__":
    main()
