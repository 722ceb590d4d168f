"""Aligning torn sections with and without masks: errors near cracks, folds and blackouts, on fields that are known exactly.

    python benchmarks/align/masked.py BENCH OUT.json --run RUN --masks none true FINDER --conds a8_crack a8_fold a20_all --pairs 4

BENCH is the folder of a registration benchmark with modules ``data``, ``synth`` and ``metrics``. Its deformed sections are aligned to the
same sections undamaged, with no masks, with the true ones, and with those that a run of the task defects finds. The table has, for each
condition, the mean over pairs of the error's median, 95th percentile and share above 2 px, everywhere and within 16 px of damage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.ops.masks import ternary
from lamella.recipe.aligner import load_estimator
from lamella.recipe.detector import load_detector
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.refine_settings import RefineSettings
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.defects.detector import Detector
from lamella.tasks.defects.masks import MaskConfig
from lamella.tasks.defects.settings import FindSettings

torch.set_num_threads(1)
CONDITIONS = {  # amplitude, smoothness, width of crack and fold, blackouts
    "a8_crack": (8, 48, 12, 0, 0),
    "a8_fold": (8, 48, 0, 16, 0),
    "a8_blackout": (8, 48, 0, 0, 3),
    "a20_all": (20, 64, 12, 16, 2),
}
BORDER = 32  # pixels at the edges that are left out
NEAR = 20


def found(finder: Detector, section: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask that a detector makes of a section."""
    maps = finder.op()(finder.normalise(section)[None, None])[:, 0]
    inside = finder.method(dict(zip(finder.method.needs, maps, strict=True))) > 0
    return ternary(torch.from_numpy(inside)[None, None].float(), NEAR)[0, 0].numpy().astype(np.uint8)


def masks_of(kind: str, true: NDArray[np.bool_], fixed: Any, moving: Any, find: str) -> tuple[Any, Any]:
    """Masks of the moving and of the fixed section."""
    if kind == "none":
        return None, None
    if kind == "true":
        return 2 * true.astype(np.uint8), None
    return found(detector(kind, find), moving), found(detector(kind, find), fixed)


@cache
def detector(run: str, find: str) -> Detector:
    """The detector of a run, which makes masks as ``find`` (JSON) says, otherwise as masks are made by default."""
    return load_detector(run, FindSettings.load({**MaskConfig().to_dict(), **json.loads(find)}), device="cpu")[0]


def score(error: NDArray[np.floating]) -> dict[str, float]:
    return {"med": np.median(error), "p95": np.percentile(error, 95), "gt2": 100 * np.mean(error > 2)}


def measure(
    estimator: Estimator, synth: Any, condition: str, pair: Any, number: int, kinds: list[str], find: str
) -> list[dict]:
    """A row for each kind of masks, of one pair under one condition, drawn as the benchmark draws it."""
    name, whole, _ = pair
    rng = np.random.default_rng([zlib.crc32(condition.encode()), number])
    drawn, truth, hidden, near, painted, dimmed = synth.make(rng, whole, *CONDITIONS[condition])
    place = synth.grid(*whole.shape) + truth
    seen = np.zeros(whole.shape, bool)
    seen[BORDER:-BORDER, BORDER:-BORDER] = True
    for axis, size in enumerate(whole.shape):
        seen &= (place[axis] > 8) & (place[axis] < size - 9)
    seen &= ~hidden
    moving, fixed = synth.finish(rng, drawn, painted, dimmed), synth.photometric(rng, whole)
    true = np.isfinite(painted) | (dimmed < 0.999)
    rows = []
    for kind in kinds:
        start = time.process_time()
        masks = masks_of(kind, true, fixed, moving, find)
        error = np.hypot(*(estimator.pair(moving, fixed, *masks) - truth))
        row = {"condition": condition, "pair": name, "masks": kind, "cpu_s": time.process_time() - start}
        row |= {f"all_{k}": float(v) for k, v in score(error[seen]).items()}
        row |= {f"near_{k}": float(v) for k, v in score(error[seen & near]).items()}
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    names = [f"{part}_{k}" for part in ("all", "near") for k in ("med", "p95", "gt2")]
    lines = [f"{'condition':12s} {'masks':24s} " + " ".join(f"{n:>8s}" for n in names)]
    for condition, kind in dict.fromkeys((r["condition"], r["masks"]) for r in rows):
        here = [r for r in rows if (r["condition"], r["masks"]) == (condition, kind)]
        lines.append(
            f"{condition:12s} {kind[-24:]:24s} " + " ".join(f"{np.mean([r[n] for r in here]):8.2f}" for n in names)
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--masks", nargs="+", default=["none", "true"])
    parser.add_argument("--conds", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--refine", type=int, default=0, help="steps of refinement")
    parser.add_argument("--find", default="{}", help='how masks are made of what a run finds, as JSON: {"cover": 1}')
    args = parser.parse_args()
    sys.path.insert(0, str(args.bench))
    import synth

    import data

    estimator = load_estimator(
        args.run, AlignSettings(tile=2048, refine=RefineSettings(steps=args.refine)), device="cpu"
    )[0]
    rows: list[dict] = []
    for condition in args.conds:
        for number, pair in enumerate(data.eval_pairs(args.pairs)):
            rows += measure(estimator, synth, condition, pair, number, args.masks, args.find)
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
