"""Seams of large translations: tiled against whole-frame prediction, at seams and elsewhere, and memory by size.

    python benchmarks/translate_stitching.py dapi_widefield.png
    python benchmarks/translate_stitching.py --memory 2500 5000 10000 20000 --small
    python benchmarks/translate_stitching.py dapi_widefield.png --run runs/stains

Without --run the net is the U-Net of ``translate.yaml`` with random weights, which hides no seam: its outputs are as sharp as its weights
are wild. The first compares whole-frame prediction with blocks (``--block``) and with blended tiles (``--tile``, ``--overlap``): the
greatest difference anywhere and within 8 px of a seam, both as shares of the output's standard deviation, and how much more two
neighbouring pixels differ across a seam than elsewhere. The second translates synthetic images of a side each in a process of its own
and tells seconds and peak memory; --small takes a net of a few thousand weights, so that hundreds of megapixels take minutes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_NEAR = 8  # px from a seam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", help="a large image")
    parser.add_argument("--run", help="a trained translate run of one input and depth 1")
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--memory", type=int, nargs="+", help="sides of synthetic images to translate")
    parser.add_argument("--small", action="store_true", help="a small net for --memory")
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        translate_side(args)
    elif args.memory:
        by_size(args)
    elif args.image:
        seams(args)
    else:
        parser.error("give an image, or --memory")


def make_translator(run: str | None, *, small: bool = False, **op: int):
    from lamella.infer import InferSettings

    settings = InferSettings(precision="float32", **op)
    if run:
        from lamella.recipe.translator import load_translator

        return load_translator(run, settings, device="cpu")[0]
    import torch

    from lamella.data.frames import Measured
    from lamella.io.preprocessing import Group, Preprocessing, Statistics
    from lamella.nets.unet import UNetConfig
    from lamella.tasks.translate.config import default_net
    from lamella.tasks.translate.net import TranslateNet
    from lamella.tasks.translate.translator import Translator

    torch.manual_seed(0)
    config = UNetConfig(features=(8, 16), down=(2,), fold=4, norm="none") if small else default_net()
    net = TranslateNet(config.build(1, 1), "none").eval()
    groups = tuple(Group(channel=c, centre=8000.0, spread=4000.0) for c in (0, 1))
    statistics = Statistics(level="dataset", source="synthetic", groups=groups)
    measured = Measured(numbers=(1,), names=("stain",), units=((0.0, 1.0),), inputs=(0,), dtype="float32")
    return Translator(
        net=net, preprocessing=Preprocessing(statistics=statistics), inputs=(0,), measured=measured, settings=settings
    )


def translated(image: str, out: Path, args: argparse.Namespace, block: int, **op: int):
    """The translation of an image (y, x), and the step of the net's grid."""
    from lamella.io import open_volume
    from lamella.tasks.translate.predict import translate_images
    from lamella.tasks.translate.predict_settings import TranslateSettings
    from lamella.tasks.translate.predict_source import find_source

    translator = make_translator(args.run, **op)
    settings = TranslateSettings(block=block, dtype="float32")
    source = find_source([image], translator, settings)
    translate_images(source, str(out), [translator], settings)
    volume = open_volume(out)
    found = volume.read(volume.box)
    return found.reshape(-1, *found.shape[-2:])[0], translator.op.stride[-1]


def seams(args: argparse.Namespace) -> None:
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="stitching-") as folder:
        start = time.process_time()
        whole, _ = translated(args.image, Path(folder) / "whole.ome.zarr", args, block=1 << 16)
        print(
            f"{args.image}: {' x '.join(map(str, whole.shape))}, whole frame in {time.process_time() - start:.0f} CPU s"
        )
        print(f"{'':28} {'largest':>10} {'at seams':>10} {'step at seams / elsewhere':>27} {'CPU s':>6}")
        for name, block, op in (
            (f"blocks of {args.block}", args.block, {}),
            (f"tiles of {args.tile}, {args.overlap} blended", 2048, {"tile": args.tile, "overlap": args.overlap}),
        ):
            start = time.process_time()
            found, step = translated(args.image, Path(folder) / f"{block}.ome.zarr", args, block, **op)
            seconds = time.process_time() - start
            side = args.tile - args.overlap if op else -(-args.block // step) * step
            side = side // 16 * 16 if op else side
            difference = np.abs(found - whole) / whole.std()
            near = at_seams(whole.shape, side, _NEAR)
            across, elsewhere = steps(found - whole, side)
            told = f"{across / whole.std():.2e} / {elsewhere / whole.std():.2e}"
            print(f"{name:28} {difference.max():10.2e} {difference[near].max():10.2e} {told:>27} {seconds:6.0f}")


def at_seams(shape, side: int, near: int):
    """Pixels that lie near the edges of squares of ``side``."""
    import numpy as np

    found = np.zeros(shape, bool)
    for axis, n in enumerate(shape):
        for seam in range(side, n, side):
            here = [slice(None)] * 2
            here[axis] = slice(max(seam - near, 0), seam + near)
            found[tuple(here)] = True
    return found


def steps(difference, side: int) -> tuple[float, float]:
    """The mean step of the difference from pixel to pixel across vertical seams, and elsewhere."""
    import numpy as np

    found = np.abs(np.diff(difference, axis=1)).mean(0)
    seam = np.zeros(len(found), bool)
    seam[side - 1 :: side] = True
    return float(found[seam].mean()), float(found[~seam].mean())


def by_size(args: argparse.Namespace) -> None:
    print(f"{'side':>6} {'seconds':>8} {'Mpx/s':>6} {'peak MiB':>9}")
    for side in args.memory:
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--side",
            str(side),
            *(["--small"] if args.small else []),
        ]
        with tempfile.TemporaryDirectory(prefix="stitching-") as folder:
            done = subprocess.run(
                command, cwd=folder, env={**os.environ}, check=True, stdout=subprocess.PIPE, text=True
            )
        seconds, peak = (float(v) for v in done.stdout.split()[-2:])
        print(f"{side:>6} {seconds:8.0f} {side**2 / 1e6 / seconds:6.2f} {peak:9.0f}", flush=True)


def translate_side(args: argparse.Namespace) -> None:
    """Translate a synthetic image of one side in this process; prints seconds and the peak of its memory in MiB."""
    import numpy as np

    from lamella.blockwise import Executor
    from lamella.core.box import Box
    from lamella.core.memory import keep_freed_memory
    from lamella.core.volume import Meta
    from lamella.io import create_volume
    from lamella.tasks.translate.predict import translate_images
    from lamella.tasks.translate.predict_settings import TranslateSettings
    from lamella.tasks.translate.predict_source import find_source

    keep_freed_memory()
    (volume,) = create_volume(
        "source.ome.zarr", box=Box.of((args.side,) * 2), dtype="uint16", meta=Meta.plain("yx"), chunk=(512, 512)
    )
    rng = np.random.default_rng(0)
    for y in range(0, args.side, 512):
        rows = min(512, args.side - y)
        volume.write(Box((y, 0), (y + rows, args.side)), rng.integers(0, 16000, (rows, args.side)).astype(np.uint16))
    translator, settings = make_translator(None, small=args.small), TranslateSettings(block=1024, dtype="uint16")
    start = time.monotonic()
    source = find_source(["source.ome.zarr"], translator, settings)
    translate_images(source, "out.ome.zarr", [translator], settings, executor=Executor(workers=1))
    seconds = time.monotonic() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
