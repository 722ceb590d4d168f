"""The table of the original paper for any method, each with its null beside it.

    PYTHONPATH=benchmarks/align:BENCH python benchmarks/align/paper_table.py BENCH OUT.json peers:identity peers:dis classics:blocks method:pair

BENCH is the folder of a registration benchmark with a module ``data``. A method is MODULE:FUNCTION, (fixed, moving) to a field, as in
``method.py``. Neighbours are aligned and correlated in chunks of 12 pixels, as in Mitchell et al. (arXiv 1904.02643), which has the mean,
the variance and percentiles 1, 5, 95 and 99 of these correlations. The null has the same of each section aligned to one that has nothing to
do with it: what a method makes fit where nothing does. The original's pixels were 32 nm wide, so the mean is also taken of chunks as wide
after HALVINGS halvings. Methods that are in OUT.json already are not run again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from lamella.ops.correlation import chunked_pearson
from lamella.ops.field import warp

CHUNK = 12
HALVINGS = 3  # from about 4 to about 32 nm
BORDER = 32  # pixels at the edges that are left out
SIDE = 512
Section = NDArray[np.uint8]


def neighbours(data: Any, every: int) -> Iterator[tuple[Section, ...]]:
    """A section, the next, and one that lies elsewhere in the stack and is turned by 180 degrees, of the middle of each stack."""
    for name in ("isbi", "vnc"):
        stack = data.stack(name)
        y, x = ((n - SIDE) // 2 for n in stack.shape[1:])
        stack = stack[:, y : y + SIDE, x : x + SIDE]
        for z in range(0, len(stack) - 1, every):
            unrelated = stack[(z + len(stack) // 2) % len(stack), ::-1, ::-1]
            yield tuple(np.ascontiguousarray(section) for section in (stack[z], stack[z + 1], unrelated))


def correlations(method: Callable[..., Any], moving: Section, fixed: Section) -> list[NDArray[np.float64]]:
    """Those of all chunks after alignment, at the resolution of the images and after halvings."""
    field = torch.from_numpy(np.asarray(method(fixed, moving), np.float32))[None]
    still = torch.from_numpy(fixed.astype(np.float32))[None, None]
    moved = warp(torch.from_numpy(moving.astype(np.float32))[None, None], field, padding="border")
    found = []
    for size in (1, 2**HALVINGS):
        a, b = (avg_pool2d(image, size)[0, 0].numpy() for image in (moved, still))
        found.append(chunked_pearson(a, b, CHUNK, border=BORDER // size).ravel())
    return found


def summary(pairs: list[list[NDArray[np.float64]]]) -> dict[str, float]:
    fine, coarse = (np.concatenate(values) for values in zip(*pairs, strict=True))
    shares = {f"p{p}": float(np.percentile(fine, p)) for p in (1, 5, 95, 99)}
    width = f"mean at {2**HALVINGS} px"
    return {"mean": float(fine.mean()), "variance": float(fine.var()), **shares, width: float(coarse.mean())}


def measure(method: Callable[..., Any], triples: list[tuple[Section, ...]]) -> dict[str, Any]:
    start = time.process_time()
    after = [correlations(method, own, following) for own, following, _ in triples]
    null = [correlations(method, own, unrelated) for own, _, unrelated in triples]
    spent = time.process_time() - start
    return {"after": summary(after), "null": summary(null), "pairs": len(triples), "cpu_s": spent}


def table(rows: dict[str, Any]) -> str:
    names = list(next(iter(rows.values()))["after"])
    lines = ["| method | " + " | ".join(names) + " | mean less null |", "|---" * (len(names) + 2) + "|"]
    for method, row in rows.items():
        cells = [f"{row['after'][name]:.3f} / {row['null'][name]:.3f}" for name in names]
        net = row["after"]["mean"] - row["null"]["mean"]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {net:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="+", help="MODULE:FUNCTION")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th pair")
    args = parser.parse_args()
    sys.path.insert(0, str(args.bench))
    import data

    triples = list(neighbours(data, args.every))
    rows = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.methods:
        module, function = name.split(":")
        if name not in rows:
            rows[name] = measure(getattr(importlib.import_module(module), function), triples)
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
