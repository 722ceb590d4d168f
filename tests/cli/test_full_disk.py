"""A disk that fills up while a verb writes: one clear line, exit with 2, and the same command goes on when there is space."""

import ctypes
import ctypes.util
import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from lamella.cli.main import main
from lamella.io import open_volume
from tests.cli.conftest import TINY, put

_SMALL, _LARGE = "300k", "64m"
_REMOUNT = 32


class Disk:
    """A file system of its own, of a size that can be changed."""

    def __init__(self, path: Path):
        self.path, self._libc = path, ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)

    def mount(self, size: str, flags: int = 0) -> None:
        done = self._libc.mount(b"tmpfs", str(self.path).encode(), b"tmpfs", flags, f"size={size}".encode())
        if done != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def unmount(self) -> None:
        self._libc.umount2(str(self.path).encode(), 2)  # lazily: what is still open is let go when it is closed


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    found = Disk(tmp_path / "disk")
    try:
        found.mount(_SMALL)
    except (OSError, AttributeError) as error:
        pytest.skip(f"a file system of its own cannot be mounted here: {error}")
    yield found
    found.unmount()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A volume whose copy does not fit, as noise is not compressed."""
    folder = tmp_path_factory.mktemp("large")
    sections = np.random.default_rng(0).integers(1, 256, (6, 320, 320), np.uint8)
    put(folder / "raw.zarr", sections, "zyx")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "convert {large}/raw.zarr {disk}/out.zarr --chunk 1,64,64",
        "convert {large}/raw.zarr {disk}/out.n5 --chunk 1,64,64",
        "convert {large}/raw.zarr {disk}/out.h5",
        "convert {large}/raw.zarr {disk}/out.tif",
        "convert {large}/raw.zarr '{disk}/out/*.png'",
        "prep stacks {large}/raw.zarr {disk}/out.h5 --count 5 --depth 2 --size 256",
        "align {place}/runs/first {large}/raw.zarr {disk}/out.zarr --tile 160 --overlap 8 --passes 1 --no-flip",
        "evaluate alignment {large}/raw.zarr {disk}/out --chunk 32",
        "inspect {place}/runs/first {large}/raw.zarr --out {disk}/out",
    ],
)
def test_a_full_disk_is_told_and_gone_on_from(command, disk, large, place, capsys):
    words = shlex.split(command.format(large=large, disk=disk.path, place=place))
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().err
    assert stopped.value.code == 2, said
    assert said.startswith("error: ")
    assert "space" in said
    assert said.count("\n") == 1
    disk.mount(_LARGE, _REMOUNT)
    with pytest.raises(SystemExit) as stopped:
        # an evaluation writes its scores before its page: where only that is missing, it has to be told to write both
        main([*words, *(["--overwrite"] if (disk.path / "out" / "scores.json").exists() else [])])
    assert stopped.value.code in (0, None), capsys.readouterr().err
    assert not list(disk.path.glob(".*"))
    if words[0] == "convert":
        out = open_volume(words[2])
        np.testing.assert_array_equal(out.read(out.box), open_volume(words[1]).read(out.box))


def test_a_training_without_space_for_its_checkpoint(disk, large, capsys):
    disk.mount("64k", _REMOUNT)
    wide = "task.net={levels: 2, skip: 0, features: 16, channels: [32], kernel: 3, correlation: 1}"
    changes = [f"data.sources.0.path={large / 'raw.zarr'}", *TINY, wide]
    words = ["train", "align", *changes, "--name", "new", "--runs", str(disk.path)]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().err
    assert stopped.value.code == 2, said
    assert "space" in said.splitlines()[-1]
    assert "Traceback" not in said
    disk.mount(_LARGE, _REMOUNT)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--resume"])
    assert stopped.value.code in (0, None), capsys.readouterr().err
