"""What blocks let go of goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# as blocks do: arrays of several sizes come and go, and something small that stays is allocated after them
SCRIPT = """
import resource, sys
import numpy as np
from lamella.blockwise import Block, cover, run
from lamella.core.box import Box

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

class Job:
    def read(self, block):
        return np.ones(20 << 20, np.uint8)

    def compute(self, block, data):
        del data
        arrays = [np.ones(3 << 20, np.uint8) for _ in range(40)]
        return np.ones(50_000, np.uint8)

    def write(self, block, result):
        kept.append(result)

kept = []
before = resident()
run(Job(), cover(Box.of((3,)), 1), label="blocks")
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other allocators")
def test_what_blocks_let_go_of_is_not_held():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40  # MiB, of 120 that a block takes
