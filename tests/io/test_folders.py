"""Folders of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume


def _sections(folder: Path, suffix: str, count: int = 12, shape: tuple[int, ...] = (6, 7)) -> Any:
    """Files s0 to s11 without leading zeros, the section of number i filled with i."""
    folder.mkdir(exist_ok=True)
    array = np.stack([np.full(shape, i, np.uint8) for i in range(count)])
    for i, section in enumerate(array):
        if suffix == ".tif":
            tifffile.imwrite(folder / f"s{i}.tif", section, compression="lzw")
        else:
            iio.imwrite(folder / f"s{i}{suffix}", section)
    return array


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_sections_stand_in_natural_order(suffix: str, tmp_path: Path) -> None:
    array = _sections(tmp_path / "em", suffix)
    for path in (tmp_path / "em", tmp_path / "em" / f"*{suffix}"):
        volume = open_volume(str(path))
        assert (volume.meta.axes, volume.meta.name, volume.chunk) == (("z", "y", "x"), "em", (1, 6, 7))
        box = Box((1, 2, 3), (11, 5, 6))
        np.testing.assert_array_equal(volume.read(box), array[box.slices()])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_odd_file_is_named(suffix: str, tmp_path: Path) -> None:
    _sections(tmp_path, suffix)
    iio.imwrite(tmp_path / f"s7{suffix}", np.zeros((6, 8), np.uint8))
    with pytest.raises(UserError, match=rf"s7\{suffix} is 6 by 8 uint8, most others are 6 by 7 uint8"):
        open_volume(str(tmp_path))


def test_type_is_part_of_the_form(tmp_path: Path) -> None:
    _sections(tmp_path, ".png")
    iio.imwrite(tmp_path / "s3.png", np.zeros((6, 7), np.uint16))
    with pytest.raises(UserError, match=r"s3\.png is 6 by 7 uint16"):
        open_volume(str(tmp_path))


def test_mixed_kinds_ask_for_one(tmp_path: Path) -> None:
    _sections(tmp_path, ".png"), _sections(tmp_path, ".tif", count=3)
    with pytest.raises(UserError, match=r"holds \.png and \.tif files; choose one"):
        open_volume(str(tmp_path))
    assert open_volume(str(tmp_path / "*.tif")).box.shape == (3, 6, 7)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_is_channels(suffix: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 8, 9, 3), dtype=np.uint8)
    for i, section in enumerate(array):
        iio.imwrite(tmp_path / f"{i}{suffix}", section)
    volume = open_volume(str(tmp_path))
    assert volume.meta.axes == ("c", "z", "y", "x")
    box = Box((0, 1, 2, 3), (2, 3, 7, 8))
    np.testing.assert_array_equal(volume.read(box), array.transpose(3, 0, 1, 2)[box.slices()])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_png_types_are_kept(dtype: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2, (2, 8, 9)).astype(dtype)
    for i, section in enumerate(array):
        _write_png(tmp_path / f"{i}.png", section)
    volume = open_volume(str(tmp_path))
    got = volume.read(volume.box)
    assert got.dtype == volume.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, array)


def _write_png(file: Path, section: Any) -> None:
    from PIL import Image

    Image.fromarray(section).save(file)


def test_resolution_of_imagej_files_is_read(tmp_path: Path) -> None:
    for i in range(2):
        section = np.zeros((4, 5), np.uint8)
        tifffile.imwrite(tmp_path / f"{i}.tif", section, imagej=True, resolution=(0.25, 0.25), metadata={"unit": "nm"})
    meta = open_volume(str(tmp_path)).meta
    assert meta.voxel_size == (1.0, 4.0, 4.0)
    assert meta.units[1:] == ("nanometer", "nanometer")


def test_stack_among_sections_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", np.zeros((3, 4, 5), np.uint16), photometric="minisblack")
    with pytest.raises(UserError, match="holds 3 pages"):
        open_volume(str(tmp_path))


def test_foreign_folder_is_not_written(tmp_path: Path) -> None:
    _sections(tmp_path, ".png")
    with pytest.raises(UserError, match="was not written by lamella"):
        open_volume(str(tmp_path), writable=True)


def test_part_of_a_section_is_refused(tmp_path: Path) -> None:
    (volume,) = create_volume(str(tmp_path / "v/*.png"), box=Box.of((3, 4, 5)), dtype="uint8", meta=Meta.plain("zyx"))
    with pytest.raises(UserError, match="whole sections"):
        volume.write(Box((0, 0, 0), (1, 2, 5)), np.ones((1, 2, 5), np.uint8))


def test_written_sections_are_files_named_by_z_that_others_read(tmp_path: Path) -> None:
    box = Box((8, 0, 0), (11, 4, 5))
    (volume,) = create_volume(str(tmp_path / "v/*.tif"), box=box, dtype="float32", meta=Meta.plain("zyx"))
    array = np.random.default_rng(0).normal(size=(1, 4, 5)).astype(np.float32)
    volume.write(Box((9, 0, 0), (10, 4, 5)), array)
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == ["00009.tif", "lamella.json"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "v" / "00009.tif"), array[0])


def test_section_lost_from_a_foreign_folder_is_an_error(tmp_path: Path) -> None:
    _sections(tmp_path, ".png")
    volume = open_volume(str(tmp_path))
    (tmp_path / "s4.png").unlink()
    with pytest.raises(FileNotFoundError):
        volume.read(volume.box)


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    _sections(tmp_path, ".png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._s1.png").write_bytes(b"")  # macOS leaves these
    assert open_volume(str(tmp_path)).box.shape == (12, 6, 7)
