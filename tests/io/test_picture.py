"""Single pictures: the numbers that were stored, in our axes."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume

GREY = np.arange(8 * 9).reshape(8, 9)
COLOUR = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)


def read(path, dataset=None):
    volume = open_volume(str(path), dataset=dataset)
    assert isinstance(volume, Volume)
    return volume.read(volume.box), "".join(volume.meta.axes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pngs_are_y_x_of_their_own_type(tmp_path, dtype):
    image = (GREY * (900 if dtype == np.uint16 else 1)).astype(dtype)
    iio.imwrite(tmp_path / "a.png", image)
    array, axes = read(tmp_path / "a.png")
    assert axes == "yx"
    assert array.dtype == dtype
    assert np.array_equal(array, image)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_is_c_y_x(tmp_path, suffix):
    write = tifffile.imwrite if suffix == "tif" else iio.imwrite
    write(tmp_path / f"a.{suffix}", COLOUR)
    array, axes = read(tmp_path / f"a.{suffix}")
    assert axes == "cyx"
    assert np.array_equal(array, np.moveaxis(COLOUR, -1, 0))


def test_several_pages_are_z_and_pages_of_colour_c_z(tmp_path):
    pages = np.stack([GREY, GREY + 1, GREY + 2]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    assert read(tmp_path / "a.tif")[1] == "zyx"
    colours = np.stack([COLOUR, COLOUR[::-1]])
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb", metadata=None)
    array, axes = read(tmp_path / "b.tif")
    assert axes == "czyx"
    assert np.array_equal(array, np.moveaxis(colours, -1, 0))


def test_transparency_is_left_out(tmp_path):
    alpha = np.concatenate([COLOUR, COLOUR[..., :1]], -1)
    iio.imwrite(tmp_path / "a.png", alpha)
    assert np.array_equal(read(tmp_path / "a.png")[0], np.moveaxis(COLOUR, -1, 0))
    Image.fromarray(GREY.astype(np.uint8)).convert("LA").save(tmp_path / "b.png")
    array, axes = read(tmp_path / "b.png")
    assert axes == "yx"
    assert np.array_equal(array, GREY)


def test_a_palette_reads_as_colours_and_as_its_numbers(tmp_path):
    image = Image.fromarray(GREY.astype(np.uint8))
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png")[0], np.moveaxis(palette[GREY], -1, 0))
    assert np.array_equal(read(tmp_path / "a.png", "indices")[0], GREY)


def test_bits_are_booleans_and_jpegs_are_read(tmp_path):
    Image.fromarray(GREY % 2 == 0).save(tmp_path / "a.png")
    array, _ = read(tmp_path / "a.png")
    assert array.dtype == bool
    assert np.array_equal(array, GREY % 2 == 0)
    iio.imwrite(tmp_path / "b.jpg", np.full((16, 24, 3), 77, np.uint8))
    array, axes = read(tmp_path / "b.jpg")
    assert axes == "cyx"
    assert np.abs(array.astype(int) - 77).max() <= 1


def test_a_box_is_that_part_of_the_whole(tmp_path):
    iio.imwrite(tmp_path / "a.png", COLOUR)
    part = open_volume(str(tmp_path / "a.png")).read(Box((1, 2, 3), (3, 6, 9)))
    assert np.array_equal(part, np.moveaxis(COLOUR, -1, 0)[1:3, 2:6, 3:9])


def test_what_cannot_be_read_is_told(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    cut = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[:2000])
    volume = open_volume(str(tmp_path / "cut.png"))
    with pytest.raises(UserError, match=r"cut\.png.*damaged or cut short"):
        volume.read(volume.box)
    (tmp_path / "head.png").write_bytes(cut[:20])
    with pytest.raises(UserError, match=r"head\.png"):
        open_volume(str(tmp_path / "head.png"))
    with pytest.raises(UserError, match="only read"):
        open_volume(str(tmp_path / "a.png"), writable=True)
