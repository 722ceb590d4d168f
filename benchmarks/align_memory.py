"""Peak memory of aligning sections of growing size: it follows the tile, not the section.

    python benchmarks/align_memory.py --sides 2048 4096 8192

Sections are made block by block as OME-Zarr: smooth noise that repeats, moved by a few pixels from one to the next, so making them
takes no memory either. They are aligned with the net of a shipped recipe, untrained, which takes the memory and time of a trained
one. Each step runs in a process of its own, whose peak the system reports (``ru_maxrss``); ``idle`` is a process that has loaded
everything and aligns nothing. ``largest`` is the side of the largest tile, in px: at the edges of a section tiles overlap on fewer
sides, so sections of 2 x 2 tiles have none of the full size. ``--settings`` takes options of ``lamella align`` as YAML.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PIECE = 512  # px of the noise that repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[2048, 4096, 8192], help="heights and widths of sections"
    )
    parser.add_argument("--sections", type=int, default=3)
    parser.add_argument("--recipe", default="align")
    parser.add_argument("--settings", default="{}", help="for example '{tile: 512, passes: 1}'")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", choices=("make", "align"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step = make if args.step == "make" else align
        step(args, Path.cwd())
        return
    print(
        f"{'side':>6} {'section MiB':>12} {'tiles':>6} {'largest':>8} {'peak MiB':>9} {'above idle':>11} {'CPU s':>8}"
    )
    idle = measured(args, 0)["peak"]
    print(f"{'idle':>6} {'':>12} {'':>6} {'':>8} {idle:9.0f}")
    for side in args.sides:
        found = measured(args, side)
        above = found["peak"] - idle
        print(
            f"{side:6} {side**2 / 2**20:12.0f} {found['tiles']:6} {found['largest']:8} {found['peak']:9.0f} {above:11.0f} {found['seconds']:8.1f}",
            flush=True,
        )


def measured(args: argparse.Namespace, side: int) -> dict[str, float]:
    """Make and align sections of ``side`` pixels, in processes of their own."""
    options = ["--sections", str(args.sections), "--recipe", args.recipe, "--settings", args.settings]
    options += ["--workers", str(args.workers), "--sides", str(side)]
    with tempfile.TemporaryDirectory(prefix="align-memory-") as folder:
        for step in ("make", "align"):
            command = [sys.executable, str(Path(__file__).resolve()), *options, "--step", step]
            if subprocess.run(command, cwd=folder, check=False).returncode:
                sys.exit(f"step {step} failed for sections of {side} px")
        return dict(json.loads((Path(folder) / "found.json").read_text()))


def make(args: argparse.Namespace, folder: Path) -> None:
    """``raw.zarr``: the sections."""
    import numpy as np
    from scipy import ndimage

    from lamella.blockwise import cover
    from lamella.core.box import Box
    from lamella.core.volume import Meta
    from lamella.io import create_volume

    (side,) = args.sides
    if not side:
        return
    noise = np.random.default_rng(0).standard_normal((_PIECE, _PIECE))
    noise = sum(ndimage.gaussian_filter(noise, s, mode="wrap") * s for s in (1.5, 6, 20))
    piece = np.clip(128 + 40 * noise / noise.std(), 1, 255).astype(np.uint8)
    box = Box.of((args.sections, side, side))
    (volume,) = create_volume(folder / "raw.zarr", box=box, dtype="uint8", meta=Meta.plain("zyx"), chunk=(1, 512, 512))
    for block in cover(box, (1, 512, 512)):
        z, y, x = block.write.start
        _, height, width = block.write.shape
        rows, columns = (np.arange(a, a + n) % _PIECE for a, n in ((y + 3 * z, height), (x - 2 * z, width)))
        volume.write(block.write, piece[np.ix_(rows, columns)][None])


def align(args: argparse.Namespace, folder: Path) -> None:
    """``aligned.zarr``, and what it took."""
    import yaml

    from lamella.blockwise import Executor
    from lamella.io import open_volume
    from lamella.recipe.find import load_recipe
    from lamella.tasks.align.estimate import Estimator
    from lamella.tasks.align.settings import AlignSettings
    from lamella.tasks.align.tiles import Tiling
    from lamella.tasks.align.volume import align_volume

    (side,) = args.sides
    recipe = load_recipe(args.recipe, ["data.sources.0.path=raw.zarr"])
    settings = AlignSettings.load(yaml.safe_load(args.settings))
    net = recipe.task.build().net
    normaliser = recipe.data.normaliser.build(0)
    estimator = Estimator(net, normaliser, settings.flip, settings.symmetric, settings.passes)
    estimator.prepare()
    start = time.process_time()
    if side:
        source = open_volume(folder / "raw.zarr")
        align_volume(source, "aligned.zarr", estimator, settings, executor=Executor(workers=args.workers))
    tiling = Tiling((side, side), settings.tile, settings.overlap)
    found = {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        "seconds": time.process_time() - start,
        "tiles": len(tiling),
        "largest": max((max(tiling.tile(i).shape) for i in range(len(tiling))), default=0),
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
