"""What a step of ``fit`` costs beside its net, against a plain loop of the same net, optimiser and data.

    python benchmarks/fit_overhead.py                  # a net of 4 layers and one of 90, 1500 steps each
    python benchmarks/fit_overhead.py --steps 500

Prints CPU milliseconds per step, validation, checkpoints and pictures left out. One thread; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch
from torch import Tensor, nn

from lamella.runs import RunFolder
from lamella.train.config import TrainerConfig
from lamella.train.fit import fit, seeded
from lamella.train.task import Task

_WARM = 50  # steps before the clock starts


class Blur(Task):
    """Learn to blur, with as many blocks of convolution, norm and ReLU as asked."""

    def __init__(self, blocks: int) -> None:
        inner = [layer for _ in range(blocks) for layer in (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())]
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *inner, nn.Conv2d(4, 1, 1))

    def loss(self, sample: Tensor, step: int) -> dict[str, Tensor]:
        return {"total": (self.net(sample) - nn.functional.avg_pool2d(sample, 3, 1, 1)).square().mean()}


class Noise:
    """Image ``i`` is noise of seed ``i``."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    for blocks in (1, 30):
        plain, ours = in_a_loop(blocks, steps), in_fit(blocks, steps)
        print(f"{blocks:>3} blocks: loop {plain:.2f} ms, fit {ours:.2f} ms, {ours - plain:+.2f} ms per step")


def in_a_loop(blocks: int, steps: int) -> float:
    """CPU milliseconds per step."""
    task, samples = seeded(lambda: Blur(blocks), 0), Noise()
    optimiser = torch.optim.Adam(task.net.parameters(), 1e-3, fused=True)
    start = 0.0
    for k in range(_WARM + steps):
        start = time.process_time() if k == _WARM else start
        loss = task.loss(torch.stack([samples[2 * k], samples[2 * k + 1]]), k)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.process_time() - start) / steps * 1e3


def in_fit(blocks: int, steps: int) -> float:
    """CPU milliseconds per step, of the difference between a long and a short run."""
    spent = []
    for number in (_WARM, _WARM + steps):
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder.create("run", {}, runs=folder)
            start = time.process_time()
            never = {"validate_every": 10**9, "checkpoint_every": 10**9, "panels_every": 0}
            config = TrainerConfig(steps=number, batch_size=2, device="cpu", threads=1, **never)
            fit(seeded(lambda: Blur(blocks), 0), Noise(), run, config)
            spent.append(time.process_time() - start)
    return (spent[1] - spent[0]) / steps * 1e3


if __name__ == "__main__":
    main()
