"""HDF5 archives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_archive, describe, open_volume


def test_archives_of_others_are_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 3, 8, 9))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("main", data=array, chunks=(1, 1, 8, 9), compression="lzf")
    volume = open_volume(str(tmp_path / "a.h5"))
    assert (volume.meta.axes, volume.dtype, volume.chunk) == (("n", "z", "y", "x"), np.float64, (1, 1, 8, 9))
    np.testing.assert_array_equal(volume.read(volume.box), array)


def test_big_endian_reads_as_native(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">u2").reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["main"] = array
    volume = open_volume(str(tmp_path / "a.h5"))
    assert volume.dtype == np.dtype("uint16")
    assert volume.dtype.isnative
    got = volume.read(volume.box)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, array)


def test_several_data_sets_are_listed_and_picked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((2, 3, 4, 5), np.uint8)
        file["group/masks"] = np.ones((2, 3, 4, 5), np.uint8)
        file["names"] = np.array([b"a", b"b"])
    path = str(tmp_path / "a.h5")
    with pytest.raises(UserError, match=r"'group/masks', 'images'; choose one, for example .*/group/masks$"):
        open_volume(path)
    for volume in (open_volume(path, dataset="group/masks"), open_volume(f"{path}/group/masks")):
        assert (volume.read(volume.box) == 1).all()
    assert list(describe(path).datasets) == ["group/masks", "images"]
    assert list(describe(f"{path}/images").datasets) == ["images"]
    with pytest.raises(UserError, match="data set 'mask' is not in"):
        open_volume(path, dataset="mask")


def test_archive_is_laid_out_at_once(tmp_path: Path) -> None:
    box, meta = Box.of((3, 2, 5, 6)), Meta.plain("nzyx")
    volumes = create_archive(tmp_path / "a.h5", {"images": (box, "uint8", meta), "x/masks": (box, "int16", meta)})
    size = (tmp_path / "a.h5").stat().st_size
    for value, volume in enumerate(volumes.values(), start=1):
        volume.write(box, np.full(box.shape, value, volume.dtype))
    assert (tmp_path / "a.h5").stat().st_size == size
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["images"][...] == 1).all()
        assert (file["x/masks"][...] == 2).all()
        assert file["images"].attrs["axes"] == "nzyx"
    with pytest.raises(UserError, match="exists already"):
        create_archive(tmp_path / "a.h5", {"images": (box, "uint8", meta)})


def test_compressed_data_set_of_others_can_be_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("main", (3, 8, 9), "uint8", chunks=(1, 8, 9), compression="gzip")
    volume = open_volume(str(tmp_path / "a.h5"), writable=True)
    volume.write(Box((1, 2, 3), (2, 4, 5)), np.full((1, 2, 2), 7, np.uint8))
    got = open_volume(str(tmp_path / "a.h5"))
    assert got.read(got.box).sum() == 28


_FILL = """
import sys, numpy as np
from lamella.core.box import Box
from lamella.io import open_volume
volume = open_volume(sys.argv[1], writable=True)
print("writing", flush=True)
for n in range(40):
    box = Box((n, 0, 0, 0), (n + 1, 2, 64, 64))
    volume.write(box, np.random.default_rng(n).integers(0, 255, box.shape, dtype=np.uint8))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_at_any_moment_then_resumed_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box.of((40, 2, 64, 64))
    for name in ("killed.h5", "whole.h5"):
        create_archive(tmp_path / name, {"main": (box, "uint8", Meta.plain("nzyx"))})
    command = [sys.executable, "-c", _FILL]
    child = subprocess.Popen([*command, str(tmp_path / "killed.h5")], stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    for name in ("killed.h5", "whole.h5"):
        monkeypatch.setattr(sys, "argv", ["", str(tmp_path / name)])
        exec(_FILL)
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_file_without_arrays_and_damaged_file_are_errors(tmp_path: Path) -> None:
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(UserError, match="without a numeric array"):
        open_volume(str(tmp_path / "empty.h5"))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "empty.h5").read_bytes()[:40])
    with pytest.raises(UserError, match="damaged"):
        open_volume(str(tmp_path / "cut.h5"))
