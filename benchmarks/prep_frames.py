"""Preprocessing of frames: frames per second and peak memory beside a plain NumPy script, and what is left of known shading.

    python benchmarks/prep_frames.py --frames 10 100 1000
    python benchmarks/prep_frames.py --shading

The first makes folders of PNG frames (half phase, half stain, 512 by 512 px, uint16), and measures shading (polynomial of all
frames), masks (Otsu of the stain) and statistics, each once with ``lamella.prep`` and once with a script that holds all frames in
memory. Each step runs in a process of its own, whose peak the system reports; ``idle`` has loaded everything and measures nothing.
Seconds are those of the work, without starting Python. The second compares both estimates of the shading on synthetic cells.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SIDE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shading", action="store_true", help="compare the estimates of the shading instead")
    parser.add_argument("--step", choices=("make", "lamella", "numpy"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shading:
        compare_shading()
    elif args.step:
        {"make": make, "lamella": with_lamella, "numpy": with_numpy}[args.step](args)
    else:
        print(f"{'frames':>6} {'':>8} {'seconds':>8} {'frames/s':>9} {'CPU s':>7} {'peak MiB':>9}")
        for count in (0, *args.frames):
            measured(args, count)


def measured(args: argparse.Namespace, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="prep-frames-") as folder:
        for step in ("make", "lamella", "numpy"):
            words = ["--frames", str(count), "--workers", str(args.workers), "--step", step]
            command = [sys.executable, str(Path(__file__).resolve()), *words]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            if subprocess.run(command, cwd=folder, env=env, check=False, stderr=subprocess.DEVNULL).returncode:
                sys.exit(f"step {step} failed for {count} frames")
            if step != "make":
                found = json.loads((Path(folder) / "found.json").read_text())
                rate = f"{count / found['seconds']:9.1f}" if count else f"{'':9}"
                print(
                    f"{count or 'idle':>6} {step:>8} {found['seconds']:8.2f} {rate} {found['cpu']:7.1f} {found['peak']:9.0f}",
                    flush=True,
                )


def note(start: float, cpu: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": peak}
    Path("found.json").write_text(json.dumps(told))


def make(args: argparse.Namespace) -> None:
    """``frames``: pairs of a noisy phase image and a few cells, under a vignette. The noise repeats, so that this is quick."""
    import imageio.v3 as iio
    import numpy as np

    rng = np.random.default_rng(0)
    light = vignette((_SIDE, _SIDE))
    y, x = np.mgrid[:_SIDE, :_SIDE]
    folder = Path("frames")
    folder.mkdir()
    (count,) = args.frames
    pairs = []
    for _ in range(min(max(count // 2, 1), 8)):
        phase = rng.normal(20000, 1500, light.shape)
        stain = rng.normal(600, 20, light.shape)
        for cell in rng.integers(30, _SIDE - 30, (12, 2)):
            stain[np.hypot(y - cell[0], x - cell[1]) < 15] += 2500
        pairs.append([(image * light).astype(np.uint16) for image in (phase, stain)])
    for i in range(count):
        plane = pairs[i // 2 % len(pairs)][i % 2]
        iio.imwrite(folder / f"im_c{i % 2:03d}_z000_t000_p{i // 2:03d}.png", plane)


def with_lamella(args: argparse.Namespace) -> None:
    from lamella.blockwise import Executor
    from lamella.prep.frame_settings import PrepConfig
    from lamella.prep.pipeline import run_prep

    config = PrepConfig.load(
        {
            "source": "frames",
            "out": "prep",
            "shading": {"method": "polynomial", "frames": "all", "most": 100000},
            "masks": {"channels": [1]},
            "statistics": {"spacing": 16},
        }
    )
    start, cpu = time.perf_counter(), time.process_time()
    if args.frames != [0]:
        list(run_prep(config, executor=Executor(workers=args.workers)))
    note(start, cpu)


def with_numpy(args: argparse.Namespace) -> None:
    """The same numbers as one would compute them in a notebook."""
    import imageio.v3 as iio
    import numpy as np
    from scipy.ndimage import uniform_filter
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening

    start, cpu = time.perf_counter(), time.process_time()
    files = sorted(Path("frames").glob("*.png"))
    for channel in (0, 1) if files else ():
        stack = np.stack([iio.imread(f) for f in files if f.name.startswith(f"im_c{channel:03d}")]).astype(np.float32)
        mean = stack.mean(axis=0)
        n = _SIDE // 32
        medians = np.median(mean.reshape(n, 32, n, 32).swapaxes(1, 2).reshape(n, n, -1), axis=-1)
        y, x = np.mgrid[:n, :n] * 32 + 15.5
        design = np.stack([(y**i * x**j).ravel() for i in range(3) for j in range(3)], axis=1)
        fit, *_ = np.linalg.lstsq(design, medians.ravel(), rcond=None)
        y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
        field = sum(c * y ** (k // 3) * x ** (k % 3) for k, c in enumerate(fit))
        stack /= (field / field.mean()).astype(np.float32)
        if channel == 1:
            for i, image in enumerate(stack):
                blurred = uniform_filter(image, 3)
                low, high = np.percentile(blurred, (1, 99))
                levels = (np.clip((blurred - low) / (high - low), 0, 1) * 255).astype(np.uint8)
                mask = opening(levels > 1.1 * threshold_otsu(levels), disk(5))
                np.save(f"mask{i}.npy", mask)
        samples = stack[:, 8::16, 8::16]
        np.percentile(samples, (25, 50, 75))
    note(start, cpu)


def vignette(shape: tuple[int, int], kind: str = "gaussian"):  # type: ignore[no-untyped-def]
    """A shading of mean 1: Gaussian, or quadratic as the polynomial of order 2 can be."""
    import numpy as np

    y, x = np.mgrid[: shape[0], : shape[1]]
    v, u = (2 * y + 1) / shape[0] - 1, (2 * x + 1) / shape[1] - 1
    if kind == "quadratic":
        field = 1 - 0.25 * v**2 - 0.2 * u**2 + 0.1 * u * v
    else:
        field = np.exp(-((u - 0.2) ** 2 + (v + 0.1) ** 2) / (2 * 1.1**2))
    return field / field.mean()


def compare_shading(count: int = 20, shape: tuple[int, int] = (512, 640)) -> None:
    """What both methods leave of a known shading, RMS in percent, from ``count`` images with photon noise; three seeds."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from lamella.ops.shading import block_medians, low_rank_shading, polynomial_shading, residual

    print(f"{'shading':>10} {'cells':>6} {'before %':>9} {'low-rank %':>20} {'polynomial %':>20}")
    for kind in ("quadratic", "gaussian"):
        for cells in (40, 150):
            truth, left = vignette(shape, kind), []
            for seed in range(3):
                rng = np.random.default_rng(seed)
                images = []
                for _ in range(count):
                    points = np.zeros(shape)
                    np.add.at(points, tuple(rng.integers(0, n, cells) for n in shape), rng.uniform(0.5, 2, cells))
                    specimen = 400 + gaussian_filter(points, 7) * 2 * np.pi * 49 * 600
                    images.append(rng.poisson(specimen * rng.uniform(0.7, 1.4) * truth).astype(np.uint16))
                medians = np.stack([block_medians(i, 16) for i in images])
                found = low_rank_shading(medians, shape), polynomial_shading(np.mean(images, axis=0))
                left.append([100 * residual(f.field(), truth) for f in found])
            told = ["  ".join(f"{v:.2f}" for v in column) for column in zip(*left, strict=True)]
            before = 100 * residual(np.ones(shape), truth)
            print(f"{kind:>10} {cells:6} {before:9.1f} {told[0]:>20} {told[1]:>20}", flush=True)


if __name__ == "__main__":
    main()
