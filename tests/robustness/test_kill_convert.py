"""``lamella convert`` killed at random moments and gone on with ends with the bytes of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


def test_killed_twice_and_gone_on_with_gives_identical_bytes(tmp_path):
    box = Box.of((24, 256, 256))
    source = tmp_path / "source.zarr"
    volume = create_volume(str(source), box=box, dtype=np.uint16, meta=Meta.plain("zyx"), chunk=(8, 64, 64))[0]
    volume.write(box, np.random.default_rng(0).integers(0, 2**16, box.shape, dtype=np.uint16))
    command = ["convert", str(source), "out.zarr", "--mips", "3", "--chunk", "2,32,32", "--block-mib", "0.05"]
    options = [
        "--times",
        "2",
        "--after",
        ".out.zarr.unfinished/*",
        "--outputs",
        "out.zarr",
        "--folder",
        str(tmp_path / "work"),
    ]
    result = subprocess.run(
        [sys.executable, BENCHMARK, *options, "--", *command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "killed 2 times" in result.stdout
    assert "0 differ" in result.stdout
