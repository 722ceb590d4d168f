"""Jobs that misbehave in known ways, for the tests of the runner; importable by worker processes."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamella.blockwise.blocks import Block
from lamella.core.errors import UserError


@dataclass(frozen=True)
class Square:
    """Writes the squares of the block's coordinates to one file per block, slowly if asked."""

    folder: str
    pause: float = 0.0

    def read(self, block: Block) -> np.ndarray:
        return np.arange(block.write.start[0], block.write.stop[0])

    def compute(self, block: Block, data: np.ndarray) -> np.ndarray:
        time.sleep(self.pause)
        return data**2

    def write(self, block: Block, result: np.ndarray) -> None:
        path = Path(self.folder, f"{block.index:05d}")
        path.with_suffix(".part").write_bytes(result.tobytes())
        path.with_suffix(".part").replace(path)


@dataclass(frozen=True)
class Fails(Square):
    """Raises at given blocks: ``once`` at the first attempt only, ``always`` at each."""

    once: tuple[int, ...] = ()
    always: tuple[int, ...] = ()

    def compute(self, block: Block, data: np.ndarray) -> np.ndarray:
        if block.index in self.always or (block.index in self.once and first_time(self.folder, block)):
            raise ValueError(f"block {block.index} is unwell")
        return super().compute(block, data)


@dataclass(frozen=True)
class Kills(Fails):
    """Kills its own process at given blocks, as the kernel does when memory runs out, or never ends."""

    kill_once: tuple[int, ...] = ()
    kill_always: tuple[int, ...] = ()
    hang_once: tuple[int, ...] = ()

    def compute(self, block: Block, data: np.ndarray) -> np.ndarray:
        if block.index in self.kill_always or (block.index in self.kill_once and first_time(self.folder, block)):
            os.kill(os.getpid(), signal.SIGKILL)
        if block.index in self.hang_once and first_time(self.folder, block):
            time.sleep(1000)
        return super().compute(block, data)


@dataclass(frozen=True)
class Stops(Square):
    """Meets a mistake of the user, or a full disk, at block 50."""

    what: str = ""

    def write(self, block: Block, result: np.ndarray) -> None:
        if block.index == 50:
            attempts = Path(self.folder, "attempts")
            attempts.write_text((attempts.read_text() if attempts.exists() else "") + "x")
            raise UserError("no such mip") if self.what == "user" else OSError(errno.ENOSPC, "No space left on device")
        super().write(block, result)


def first_time(folder: str, block: Block) -> bool:
    marker = Path(folder, f".tried-{block.index}")
    tried = marker.exists()
    marker.touch()
    return not tried


def outputs(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.isdigit()}


def main(folder: str, ledger: str) -> None:
    """Run ``Square`` in a process that a test kills."""
    from lamella.blockwise import cover, run
    from lamella.core.box import Box

    print("ready", flush=True)
    run(Square(folder, 0.03), cover(Box.of((1000,)), 10), label="squares", ledger=Path(ledger))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
