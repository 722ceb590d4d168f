"""Ctrl-C half-way: one line that says how to go on, exit with 130, and the same command goes on."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lamella.cli.main import main
from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume

_SHAPE = (64, 256, 256)
_SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a command in the background of a shell is born deaf to it
from lamella.cli.main import main
from lamella.io.base import StoredVolume
write = StoredVolume.write
def slowly(self, box, array):
    write(self, box, array)
    print("written", flush=True)
    time.sleep(0.05)
StoredVolume.write = slowly
main(sys.argv[1:])
"""


@pytest.fixture
def source(tmp_path):
    path = str(tmp_path / "raw.ome.zarr")
    meta = Meta(axes=("z", "y", "x"), voxel_size=(40.0, 4.0, 4.0), units=("nanometer",) * 3)
    volume = create_volume(path, box=Box.of(_SHAPE), dtype="uint8", meta=meta, chunk=(1, 64, 64))[0]
    volume.write(volume.box, np.random.default_rng(0).integers(1, 255, _SHAPE, dtype=np.uint8))
    return path


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(source, tmp_path):
    words = ["convert", source, str(tmp_path / "out.ome.zarr"), "--block-mib", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in told
    with pytest.raises(SystemExit, match="0"):
        main(words)
    raw, out = open_volume(source), open_volume(words[2])
    assert np.array_equal(out.read(out.box), raw.read(raw.box))
