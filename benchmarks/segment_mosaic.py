"""Predict mosaics of growing size, up to 30 000 x 30 000 pixels with half a million known cells: memory, seams, kills, scores.

    python benchmarks/segment_mosaic.py RUN --sides 8000 16000 30000 --kill-after 60

A mosaic repeats a piece of 2000 x 2000 pixels with touching cells, which blocks of 2048 cut in ever other places. So the
instances of every inner piece must be the same, and none may cross from one piece to the next: a seam anywhere would show. The
true cells are known. Prediction runs as the command line does, in a process of its own, whose peak memory the system reports;
with ``--kill-after`` it is killed (SIGKILL) after so many seconds and started again, until it ends.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.blockwise import cover
from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.matching import Overlaps
from lamella.ops.matching_scores import ObjectScores, compare

PIECE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a segment run of 2D nuclei, bright on dark")
    parser.add_argument("--sides", type=int, nargs="+", default=[8000, 16000, 30000])
    parser.add_argument("--kill-after", type=float, default=0, help="seconds; 0 lets it run")
    parser.add_argument("--options", nargs="*", default=[], help="further options of lamella predict")
    args = parser.parse_args()
    image, labels = piece()
    print(f"{'side':>6} {'cells':>8} {'found':>8} {'peak MiB':>9} {'CPU s':>7} {'wall s':>7} {'Mpx/CPU s':>10} {'kills':>6} "
          f"{'AP50':>6} {'pieces alike':>13}")  # fmt: skip
    for side in args.sides:
        with tempfile.TemporaryDirectory(prefix="mosaic-") as folder:
            make(Path(folder) / "mosaic.ome.zarr", image, side)
            cost = predict(args, Path(folder))
            found, precision, alike = check(Path(folder) / "labels.ome.zarr", labels, side)
            cells = int(labels.max()) * (side // PIECE) ** 2
            print(f"{side:6} {cells:8} {found:8} {cost['peak']:9.0f} {cost['cpu']:7.0f} {cost['wall']:7.0f} "
                  f"{side**2 / 1e6 / cost['cpu']:10.2f} {cost['kills']:6.0f} {precision:6.3f} {alike:>13}", flush=True)  # fmt: skip


def piece() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Cells on a jittered grid, a third of them touching a neighbour, none reaching the edge; image and labels."""
    rng = np.random.default_rng(0)
    labels = np.zeros((PIECE, PIECE), np.int32)
    y, x = np.mgrid[-20:21, -20:21]
    for number, (row, column) in enumerate(np.ndindex(PIECE // 40, PIECE // 40), start=1):
        a, b, angle = *rng.uniform(9, 17, 2), rng.uniform(0, np.pi)
        u, v = np.cos(angle) * y + np.sin(angle) * x, -np.sin(angle) * y + np.cos(angle) * x
        shift = rng.integers(-2, 3, 2)
        top, left = np.clip(np.array([row, column]) * 40 + shift, 2, PIECE - 43)
        window = labels[top : top + 41, left : left + 41]
        window[(u / a) ** 2 + (v / b) ** 2 < 1] = number
    light = rng.uniform(0.5, 1.0, labels.max() + 1)
    light[0] = 0.08
    clear = ndimage.gaussian_filter(light[labels], 1.5)
    image = 200 * clear + rng.normal(0, 5, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def make(path: Path, image: NDArray[np.uint8], side: int) -> None:
    """The mosaic, chunk by chunk."""
    box = Box.of((side, side))
    (volume,) = create_volume(path, box=box, dtype="uint8", meta=Meta.plain("yx"), chunk=(1000, 1000))
    for block in cover(box, 1000):
        rows, columns = (np.arange(a, b) % PIECE for a, b in zip(block.write.start, block.write.stop, strict=True))
        volume.write(block.write, image[np.ix_(rows, columns)])


def predict(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run the command line, killing it if asked to, until it ends; what all attempts cost together."""
    command = [sys.executable, "-m", "lamella", "predict", str(args.run.resolve()), "mosaic.ome.zarr"]
    command += ["--output", "labels.ome.zarr", *args.options]
    before, start, kills = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    while True:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=args.kill_after or None)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        if process.returncode:
            sys.exit(errors.decode()[-2000:])
        break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"peak": after.ru_maxrss / 1024, "cpu": cpu, "wall": time.monotonic() - start, "kills": kills}


def check(path: Path, truth: NDArray[np.int32], side: int) -> tuple[int, float, str]:
    """Objects found, their AP at IoU 0.5 against the truth, and how many inner pieces are alike up to numbers."""
    volume = open_volume(path)
    counts, found, alike, inner = np.zeros(3, int), 0, 0, 0
    first: NDArray[np.int64] | None = None
    for row, column in np.ndindex(side // PIECE, side // PIECE):
        corner = (row * PIECE, column * PIECE)
        labels = volume.read(Box(corner, (corner[0] + PIECE, corner[1] + PIECE)))
        ids, dense = np.unique(labels, return_inverse=True)
        dense = renumbered(dense.reshape(labels.shape))
        found += len(ids) - (ids[0] == 0)
        counts += ObjectScores.of(compare(Overlaps.of(truth, dense))).counts[0]
        if 0 < row < side // PIECE - 1 and 0 < column < side // PIECE - 1:
            first = dense if first is None else first
            alike += np.array_equal(dense, first)
            inner += 1
    return found, counts[0] / counts.sum(), f"{alike} of {inner}"


def renumbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels by the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse].reshape(labels.shape)


if __name__ == "__main__":
    main()
