"""NT-Xent against a loop over pairs, and its time and memory for many points.

    python benchmarks/ntxent.py                    # 2 000 points against the loop
    python benchmarks/ntxent.py --points 100000    # alone

Prints seconds for loss and gradient, the ratio, and the memory beyond the embeddings themselves. The loop is the formula as it is
commonly first written: all products at once, then pair by pair the two logarithms. Each pair costs about the same (its gradient is
as large as all products), so a fiftieth of the pairs is timed.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.ntxent import nt_xent

_LOOP = 2000  # points up to which the loop is timed too


def loop(first: Tensor, second: Tensor, temperature: float, pairs: int) -> Tensor:
    """The loss of the first ``pairs`` places, one after the other."""
    everyone = torch.cat([first, second])
    n, total = len(first), first.new_zeros(())
    alike = torch.exp(everyone @ everyone.T / temperature)
    sums = alike.sum(1) - alike.diagonal()
    for u in range(pairs):
        v = u + n
        total = total - torch.log(alike[u, v] / sums[u]) - torch.log(alike[v, u] / sums[v])
    return total / (2 * pairs)


def seconds(work) -> float:
    start = time.process_time()
    work().backward()
    return time.process_time() - start


def peak() -> float:
    """The most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=_LOOP)
    parser.add_argument("--channels", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    drawn = torch.randn(2, given.points, given.channels, generator=torch.Generator().manual_seed(0))
    views = [F.normalize(view, dim=-1).requires_grad_() for view in drawn]
    nt_xent(views[0][:8], views[1][:8], 0.05).backward()
    before = peak()
    ours = seconds(lambda: nt_xent(*views, 0.05))
    print(f"{given.points} points of {given.channels} channels, one thread")
    print(f"nt_xent: {ours:.3f} s of one core, {peak() - before:.0f} MB more memory")
    if given.points <= _LOOP:
        pairs = max(given.points // 50, 1)
        theirs = seconds(lambda: loop(*views, 0.05, pairs)) * given.points / pairs
        print(f"loop:    {theirs:.1f} s, {theirs / ours:.0f} times as long")


if __name__ == "__main__":
    main()
