"""What a block costs beside its work: run empty blocks in process and on a Dask cluster of this machine.

    python benchmarks/block_overhead.py                    # 100 000 blocks in process and on local:2, with ledgers
    python benchmarks/block_overhead.py --blocks 10000 --dask local:4

Prints microseconds per block (the cluster's start not counted), the growth of this process's memory, and the ledger's size.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lamella.blockwise import Block, Executor, cover, run
from lamella.core.box import Box


@dataclass(frozen=True)
class Nothing:
    """A job that does nothing."""

    def read(self, block: Block) -> None:
        return None

    def compute(self, block: Block, data: None) -> None:
        return None

    def write(self, block: Block, result: None) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--dask", default="local:2", help="cluster to try beside this process; none to leave it out")
    args = parser.parse_args()
    measure("in process, 1 worker", args.blocks, Executor(workers=1))
    measure("in process, 4 workers", args.blocks, Executor(workers=4))
    if args.dask != "none":
        measure(f"dask {args.dask}", args.blocks, Executor(dask=args.dask))


def measure(name: str, count: int, executor: Executor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "ledger")
        start_up = run(Nothing(), cover(Box.of((1,)), 1), label="start", executor=executor).seconds
        before = peak_mib()
        report = run(Nothing(), cover(Box.of((count,)), 1), label=name, ledger=ledger, executor=executor)
        again = run(Nothing(), cover(Box.of((count,)), 1), label=name, ledger=ledger, executor=executor)
        each = (report.seconds - start_up) / count * 1e6
        print(
            f"{name:>22}: {each:7.1f} µs per block of {count}, memory +{peak_mib() - before:.0f} MiB, "
            f"ledger {ledger.stat().st_size / 1024:.0f} KiB, {again.seconds:.2f} s to find all done"
        )


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
