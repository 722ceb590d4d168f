"""Kill a grid at random moments, go on with it, and compare its table with that of an undisturbed one.

    python benchmarks/grid_killed.py --times 5

A grid of 12 combinations (2 temperatures x 3 rates x 2 nets), each with heads of 2 kinds on 2 contrast checkpoints, small nets and
small images. It runs once undisturbed; then, in another folder, ``lamella grid run`` is killed (SIGKILL to it and its children) at
random moments, and repeated, until it has been killed ``--times`` times and has finished. Each moment is counted from when the command
begins to work, and drawn from the first third of the time that the undisturbed grid worked. Then the tables, and the means of every validation, are compared byte for byte.

Exits with 1 and names the files that differ, if any do.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import yaml
from skimage.draw import disk

TRAINER = {
    "batch_size": 1, "checkpoint_every": 10, "keep_every": 20, "validate_every": 1000, "panels_every": 0, "graph": False,
    "log_every": 10, "device": "cpu", "precision": "32",
}  # fmt: skip
NET = {"kind": "unet", "down": [2]}
GRID = {
    "out": "grid",
    "contrastive": {
        "set": {
            "data.sources.0.path": "train/images",
            "data.crop": 48,
            "data.overhang": 8,
            "task.point_density": 0.02,
            "trainer": {**TRAINER, "steps": 40},
        },
        "grid": {"task.temperature": [0.05, 0.2], "trainer.learning_rate": [1e-3, 3e-3, 1e-2]},
        "checkpoints": ["step_0000020", "last"],
    },
    "models": [
        {"task.h_channels": 4, "task.net": {**NET, "features": [4, 8]}},
        {"task.h_channels": 8, "task.net": {**NET, "features": [6, 12]}},
    ],
    "seg": {
        "set": {
            "data.sources.0.path": "train",
            "data.crop": 32,
            "task.target": {"kind": "classes", "classes": {"kind": "foreground"}},
            "trainer": {**TRAINER, "steps": 60, "learning_rate": 3e-2},
        },
        "reads": ["base", "embeddings"],
    },
    "validation": {
        "source": "val",
        "checkpoints": ["last"],
        "settings": {"thresholds": "0.2,0.35,0.5,0.65,0.8", "samples": 0},
    },
}


def main() -> None:
    args = parse()
    folder = Path(args.folder or tempfile.mkdtemp(prefix="grid-killed-"))
    print(f"working in {folder}", flush=True)
    for name in ("whole", "killed"):
        make(folder / name)
    whole = begin(folder / "whole", args.jobs)
    wait_for_work(whole, folder / "whole", 0)
    start = time.monotonic()
    if whole.wait():
        sys.exit(f"the undisturbed grid failed; see {folder / 'whole' / 'log'}")
    seconds = time.monotonic() - start
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    kills = disturb(folder / "killed", args, seconds)
    differences = compare(folder / "whole" / "grid", folder / "killed" / "grid")
    print(f"killed {kills} times; {len(differences[0])} files compared, {len(differences[1])} differ")
    for line in differences[1][:20]:
        print(f"  {line}")
    sys.exit(1 if differences[1] or kills < args.times else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="how often to kill [5]")
    parser.add_argument("--jobs", type=int, default=1, help="combinations at once [1]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    parser.add_argument("--folder", help="work here and leave it [a temporary folder]")
    return parser.parse_args()


def make(folder: Path) -> None:
    """Images of bright discs with their labels, and the grid."""
    for part, count in (("train", 3), ("val", 2)):
        for name in ("images", "labels"):
            (folder / part / name).mkdir(parents=True)
        for k in range(count):
            rng = np.random.default_rng([count, k])
            labels, image = np.zeros((64, 64), np.uint16), rng.normal(100, 30, (64, 64))
            for number in range(1, 7):
                at = disk(tuple(rng.integers(8, 56, 2)), int(rng.integers(5, 8)), shape=labels.shape)
                labels[at] = number
            image[labels > 0] += 50
            tifffile.imwrite(folder / part / "images" / f"{part}{k}.tif", image.clip(0, 255).astype(np.uint8))
            tifffile.imwrite(folder / part / "labels" / f"{part}{k}.tif", labels)
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))


def begin(folder: Path, jobs: int) -> subprocess.Popen[bytes]:
    """Start the command, the leader of a group of its own, so that its children can be killed with it."""
    words = [sys.executable, "-m", "lamella", "grid", "run", "grid.yaml", "--jobs", str(jobs)]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def wait_for_work(process: subprocess.Popen[bytes], folder: Path, said: int) -> None:
    """Wait until the command trains or validates; ``said`` is how long the log was before."""
    while process.poll() is None:
        with open(folder / "log", "rb") as log:
            log.seek(said)
            if b"combination-" in log.read():
                return
        time.sleep(0.1)


def disturb(folder: Path, args: argparse.Namespace, seconds: float) -> int:
    """Kill the grid ``args.times`` times, then let it finish; how often it was killed."""
    moments, kills = random.Random(args.seed), 0
    while True:
        said = (folder / "log").stat().st_size if kills else 0
        process = begin(folder, args.jobs)
        if kills == args.times:
            if process.wait():
                sys.exit(f"the grid failed after it was killed; see {folder / 'log'}")
            return kills
        wait_for_work(process, folder, said)
        wait = moments.uniform(0, seconds / 3)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"killed after {wait:.1f} s; {status(folder)}", flush=True)
        else:
            return kills


def status(folder: Path) -> str:
    """The last line of ``lamella grid status``."""
    words = [sys.executable, "-m", "lamella", "grid", "status", "grid.yaml"]
    told = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    return told.strip().splitlines()[-1]


def compare(whole: Path, killed: Path) -> tuple[list[str], list[str]]:
    """The tables of the undisturbed grid, and those that are other in the killed one."""
    found = [whole / "table.csv", *sorted(whole.glob("combination-*/seg/*/*/validation/*.csv"))]
    names = [str(path.relative_to(whole)) for path in found]
    other = [n for n in names if not (killed / n).is_file() or (killed / n).read_bytes() != (whole / n).read_bytes()]
    return names, other


if __name__ == "__main__":
    main()
