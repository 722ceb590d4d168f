"""Finding formats, and errors that come before work starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, mip_factors, open_volume
from lamella.io.base import Header
from lamella.io.hdf5 import Hdf5Volume
from lamella.io.units import long_unit, to_nm

BOX, META = Box.of((2, 8, 9)), Meta.plain("zyx")


def test_path_that_is_nothing_names_what_is_near(tmp_path: Path) -> None:
    create_volume(str(tmp_path / "aligned.zarr"), box=BOX, dtype="uint8", meta=META)
    with pytest.raises(UserError, match=r"does not exist; did you mean .*aligned\.zarr\?"):
        open_volume(str(tmp_path / "alinged.zarr"))
    with pytest.raises(UserError, match=r"is no volume that lamella reads \(OME-Zarr.*it holds .*aligned\.zarr; give"):
        open_volume(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"it is a file ending in '\.txt'"):
        open_volume(str(tmp_path / "notes.txt"))
    with pytest.raises(UserError, match="the nearest folder there is"):
        open_volume(str(tmp_path / "no" / "such" / "path"))


@pytest.mark.parametrize("path", ["", "ftp://host/x", "precomputed://"])
def test_address_that_cannot_be_one_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"use a plain path|is empty"):
        open_volume(path)


def test_name_that_tells_no_format_is_refused_unless_a_kind_is_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not tell its format; end it in one of .*\.zarr"):
        create_volume(str(tmp_path / "out"), box=BOX, dtype="uint8", meta=META)
    with pytest.raises(UserError, match=r"kind 'zap' is not one of .*ome-zarr, ome-zarr-0\.5"):
        create_volume(str(tmp_path / "out"), box=BOX, dtype="uint8", meta=META, kind="zap")
    create_volume(str(tmp_path / "out"), box=BOX, dtype="uint8", meta=META, kind="ome-zarr-0.4")
    assert (tmp_path / "out" / ".zattrs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": Box((0, 0), (2, 8))}, "box 0:2,0:8 must hold voxels on each of the axes zyx"),
        ({"box": Box.of((2, 0, 9))}, "must hold voxels"),
        ({"chunk": (1, 8)}, "must have 3 lengths"),
        ({"chunk": (0, 8, 8)}, "at least 1"),
        ({"mips": 0}, "mips 0 must be at least 1"),
        ({"mips": [(1, 2, 2)]}, "all 1 first"),
        ({"meta": Meta.plain("xyz")}, "in that order"),
        ({"meta": Meta.plain("zyx", voxel_size=(1.0, 1.0))}, "must be given for each"),
        ({"meta": Meta.plain("zyx", channel_names=("a", "b"))}, "as many as the channels, 1"),
    ],
)
def test_plan_that_does_not_fit_together_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    asked = {"box": BOX, "dtype": "uint8", "meta": META} | change
    with pytest.raises(UserError, match=message):
        create_volume(str(tmp_path / "v.zarr"), **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "v.zarr").exists()


def test_mips_may_have_factors_of_their_own(tmp_path: Path) -> None:
    assert mip_factors("czyx", 2) == ((1, 1, 1, 1), (1, 1, 2, 2))
    volumes = create_volume(
        str(tmp_path / "v.zarr"),
        box=Box.of((9, 8, 9)),
        dtype="uint8",
        meta=META,
        mips=[(1, 1, 1), (2, 2, 2), (8, 4, 2)],
    )
    assert [v.box.shape for v in volumes] == [(9, 8, 9), (5, 4, 5), (2, 2, 5)]
    assert open_volume(str(tmp_path / "v.zarr"), mip=2).meta.voxel_size == (8.0, 4.0, 2.0)


def test_overwrite_spares_what_is_not_ours(tmp_path: Path) -> None:
    work = tmp_path / "work.zarr"
    work.mkdir()
    (work / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="is not overwritten"):
        create_volume(str(work), box=BOX, dtype="uint8", meta=META, overwrite=True)
    assert (work / "thesis.txt").read_text() == "years"


def test_failed_overwrite_leaves_the_old_volume(tmp_path: Path) -> None:
    path = str(tmp_path / "v.zarr")
    (volume,) = create_volume(path, box=BOX, dtype="uint8", meta=META)
    volume.write(BOX, np.ones(BOX.shape, np.uint8))
    with pytest.raises(UserError, match="complex64"):
        create_volume(path, box=BOX, dtype="complex64", meta=META, overwrite=True, kind="n5")
    assert (open_volume(path).read(BOX) == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["v.zarr"]


def test_full_disk_says_what_is_kept_and_how_to_go_on() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    header = Header("out.h5", BOX, np.dtype("uint8"), BOX.shape, META, writable=True)
    volume = Hdf5Volume(header, full, "main", np.dtype("uint8"), 0)
    with pytest.raises(
        UserError, match=r"no space left while writing out\.h5.*is kept: free some space and run the same"
    ):
        volume.write(BOX, np.ones(BOX.shape, np.uint8))


_FILL = """
import subprocess, sys
import numpy as np
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume
box = Box.of((16, 256, 256))
rng = np.random.default_rng(0)
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]], capture_output=True).returncode:
    sys.exit(77)
for kind in ("ome-zarr", "n5", "precomputed", "tiff-folder"):
    (volume,) = create_volume(sys.argv[1] + "/" + kind, box=box, dtype="uint8", meta=Meta.plain("zyx"), kind=kind)
    try:
        for z in range(32):
            volume.write(Box((z % 16, 0, 0), (z % 16 + 1, 256, 256)), rng.integers(0, 255, (1, 256, 256), dtype=np.uint8))
    except UserError as error:
        assert "no space left" in str(error) and "is kept" in str(error), error
        volume.read(Box((0, 0, 0), (1, 256, 256)))
    else:
        sys.exit("nothing was full")
    subprocess.run(["rm", "-r", sys.argv[1] + "/" + kind], check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="makes a small disk in a namespace of Linux")
def test_full_disk_in_every_kind_of_store(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", _FILL, str(tmp_path)], check=False, capture_output=True, text=True
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody make a small disk")
    assert done.returncode == 0, done.stderr


def test_units_have_one_name() -> None:
    assert [long_unit(u) for u in ("nm", "um", "µm", "\\u00B5m", "micron", "nanometer", "pixel", None)] == [
        "nanometer", *["micrometer"] * 4, "nanometer", "", "",
    ]  # fmt: skip
    assert to_nm(0.5, "micrometer") == 500
    assert to_nm(4.0, "") == 4


def test_importing_io_imports_no_format() -> None:
    code = "import lamella.io, sys; assert not {'tensorstore', 'h5py', 'tifffile', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


_FORK = """
import os, sys
from lamella.core.errors import UserError
from lamella.io import open_volume
volume = open_volume(sys.argv[1])
if os.fork() == 0:
    try:
        volume.read(volume.box)
    except UserError as error:
        os._exit(7 if "'spawn'" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_reader_is_told_to_spawn(tmp_path: Path) -> None:
    create_volume(str(tmp_path / "v.zarr"), box=BOX, dtype="uint8", meta=META)
    done = subprocess.run([sys.executable, "-c", _FORK, str(tmp_path / "v.zarr")], check=False)
    assert done.returncode == 7


def test_a_path_may_lead_up_and_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (volume,) = create_volume("../data/../a.zarr", box=Box.of((1, 4, 5)), dtype="uint8", meta=Meta.plain("zyx"))
    volume.write(volume.box, np.ones((1, 4, 5), np.uint8))
    assert open_volume(tmp_path / "a.zarr").read(volume.box).all()
    assert open_volume("../a.zarr").read(volume.box).all()
