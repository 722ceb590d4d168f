"""``lamella info`` prints what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.cli.main import main
from lamella.io import create_archive
from tests.io.cases import Case, box_of, create, meta_of


def _printed(capsys: pytest.CaptureFixture[str], path: Path | str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["info", str(path)])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_volume_with_mips_and_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(Case("v.zarr", axes="czyx", dtype="uint16"), tmp_path, mips=2)
    out = _printed(capsys, tmp_path / "v.zarr")
    assert "OME-Zarr 0.5 (zarr 3)" in out
    rows = [line.split() for line in out.splitlines() if "uint16" in line]
    assert [row[row.index("nm") - 5 : row.index("nm") + 1] for row in rows] == [
        ["40", "x", "4.5", "x", "4", "nm"],
        ["40", "x", "9", "x", "8", "nm"],
    ]
    assert "2 x 4 x 23 x 37 from 0, 3, 16, 5" in out
    assert "13.3 KiB" in out
    assert "channels: DAPI, <actin> & ünit" in out
    assert "command: lamella align" in out
    assert "voxel 0 lies at: 0, 80, 0, -12.5" in out


def test_archive_lists_its_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("a.h5", axes="nzyx", dtype="uint8")
    create_archive(tmp_path / "a.h5", {n: (box_of(case), "uint8", meta_of(case)) for n in ("images", "masks")})
    out = _printed(capsys, tmp_path / "a.h5")
    assert "images" in out
    assert "masks" in out
    assert "seed: 3" in out


def test_no_volume_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["info", str(tmp_path / "nothing")])
    assert stop.value.code == 2
    assert "does not exist" in capsys.readouterr().err
