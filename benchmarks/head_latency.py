"""How long it takes from points to a predicted image: ``SparseSession`` on stored embeddings, on one core.

    python benchmarks/head_latency.py [--side 1024] [--channels 16] [--points 200] [--repeats 9]

Embeddings are smooth random fields; classes follow from two of them, so that something is to be learnt. Prints the median and the worst
of the repeats, each with a new session: opening (measuring the embeddings' scale), adding the points, fitting from first weights,
fitting anew with 20 points more (warm), predicting, and points to picture: adding, fitting and predicting.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy import ndimage

from lamella.tasks.head.session import SparseSession


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("side", 1024), ("channels", 16), ("points", 200), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    embeddings, truth = specimen(asked.side, asked.channels)
    for dtype in (np.float16, np.float32):
        stored = embeddings.astype(dtype)
        rows = [measured(stored, truth, asked.points, seed) for seed in range(asked.repeats)]
        print(
            f"{np.dtype(dtype).name}, {asked.channels} x {asked.side} x {asked.side}, {asked.points} points, one core"
        )
        for name in rows[0]:
            values = [row[name] for row in rows]
            print(f"  {name:18s} median {np.median(values):7.3f}   worst {max(values):7.3f}")


def specimen(side: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    fields = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), 6) for _ in range(channels)])
    fields /= fields.std((1, 2), keepdims=True)
    return fields, (fields[0] * fields[1] > 0).astype(np.int64)


def measured(stored: np.ndarray, truth: np.ndarray, points: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    places = rng.integers(0, truth.shape[0], (points + 20, 2))
    classes = truth[tuple(places.T)]
    clock = [time.perf_counter()]

    def lap() -> float:
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    session = SparseSession(stored, seed=seed)
    row = {"open s": lap()}
    session.add(places[:points], classes[:points])
    row["add s"] = lap()
    session.fit()
    row["fit s"] = lap()
    found = session.predict()
    row["predict s"] = lap()
    row["points to picture s"] = row["add s"] + row["fit s"] + row["predict s"]
    session.add(places[points:], classes[points:])
    lap()
    session.fit()
    row["warm fit s"] = lap()
    row["accuracy"] = float((found.argmax(0) == truth).mean())
    return row


if __name__ == "__main__":
    main()
