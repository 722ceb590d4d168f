"""TIFF as other programs write it, and what they read of ours."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, describe, open_volume

GREY: dict[str, Any] = {"photometric": "minisblack"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "deflate": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
    "lzw": {"compression": "lzw"},
    "tiles": {"compression": "zstd", "tile": (16, 32)},
    "big endian": {"byteorder": ">"},
    "big endian tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zlib", "predictor": True},
    "bigtiff": {"bigtiff": True},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "OME": {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}},
    "plain pages": {"metadata": None, "compression": "packbits"},
}


def _array(*shape: int, dtype: str = "uint16") -> Any:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_of_any_layout_read_box_by_box(layout: str, tmp_path: Path) -> None:
    array, path = _array(5, 41, 70), tmp_path / "a.tif"
    options = LAYOUTS[layout] if LAYOUTS[layout].get("imagej") else GREY | LAYOUTS[layout]
    tifffile.imwrite(path, array, **options)
    volume = open_volume(str(path))
    assert volume.meta.axes == ("z", "y", "x")
    boxes = [Box((z, y, x), (5, 41, 70)) for z in (0, 3) for y in (0, 17) for x in (0, 33)] + [
        Box((1, 6, 9), (2, 8, 40))
    ]
    with ThreadPoolExecutor(4) as threads:
        for box, got in zip(boxes, threads.map(volume.read, boxes), strict=True):
            assert got.dtype == np.uint16
            np.testing.assert_array_equal(got, array[box.slices()])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}], ids=["raw", "tiles"])
def test_colour_is_channels(planar: str, options: dict[str, Any], tmp_path: Path) -> None:
    array = _array(33, 21, 3, dtype="uint8")
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **options)
    volume = open_volume(str(tmp_path / "a.tif"))
    assert volume.meta.axes == ("c", "y", "x")
    box = Box((1, 5, 3), (3, 30, 20))
    np.testing.assert_array_equal(volume.read(box), np.moveaxis(array, -1, 0)[box.slices()])


def test_volumetric_tiles_are_read(tmp_path: Path) -> None:
    array = _array(20, 40, 40)
    tifffile.imwrite(tmp_path / "a.tif", array, volumetric=True, tile=(16, 16, 16), compression="zlib", **GREY)
    box = Box((3, 10, 15), (19, 40, 20))
    np.testing.assert_array_equal(open_volume(str(tmp_path / "a.tif")).read(box), array[box.slices()])


def test_imagej_hyperstack_gives_axes_voxel_size_and_unit(tmp_path: Path) -> None:
    array = _array(2, 4, 3, 8, 9)  # ImageJ keeps t z c y x
    metadata = {"axes": "TZCYX", "spacing": 0.5, "unit": "um", "finterval": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4, 10), metadata=metadata)
    volume = open_volume(str(tmp_path / "a.tif"))
    assert volume.meta.axes == ("t", "c", "z", "y", "x")
    assert volume.meta.voxel_size == pytest.approx((2.0, 1.0, 0.5, 0.1, 0.25))
    assert volume.meta.units == ("second", "", "micrometer", "micrometer", "micrometer")
    np.testing.assert_array_equal(volume.read(volume.box), array.transpose(0, 2, 1, 3, 4))


def test_ome_metadata_is_read(tmp_path: Path) -> None:
    metadata = {
        "axes": "CZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.005, "PhysicalSizeZ": 40,
        "PhysicalSizeZUnit": "nm", "Channel": {"Name": ["DAPI", "actin"]}, "Name": "cell",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", _array(2, 3, 4, 5), metadata=metadata, **GREY)
    meta = open_volume(str(tmp_path / "a.ome.tif")).meta
    assert meta.voxel_size == (1.0, 40.0, 0.005, 4.0)
    assert meta.units == ("", "nanometer", "micrometer", "nanometer")  # OME's default is the micrometre
    assert (meta.channel_names, meta.name) == (("DAPI", "actin"), "cell")


def test_ome_tiff_of_ours_is_read_by_tifffile(tmp_path: Path) -> None:
    array = _array(2, 3, 14, 15)
    meta = Meta(("c", "z", "y", "x"), (1.0, 40.0, 4.0, 4.0), ("", *("nanometer",) * 3), ("a", "b"))
    (volume,) = create_volume(str(tmp_path / "a.ome.tif"), box=Box.of(array.shape), dtype="uint16", meta=meta)
    for z in (2, 0, 1):  # in any order
        volume.write(Box((0, z, 0, 0), (2, z + 1, 14, 15)), array[:, z : z + 1])
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "CZYX"
        np.testing.assert_array_equal(file.asarray(), array)
        assert 'PhysicalSizeZ="40.0"' in file.ome_metadata
        assert 'PhysicalSizeZUnit="nm"' in file.ome_metadata
    assert describe(str(tmp_path / "a.ome.tif")).format == "OME-TIFF"


def test_pyramid_in_a_file_is_mips(tmp_path: Path) -> None:
    array = _array(64, 96)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        size = {"PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0, "axes": "YX"}
        file.write(array, subifds=2, tile=(16, 16), metadata=size, **GREY)
        for k in (2, 4):
            file.write(array[::k, ::k], subfiletype=1, tile=(16, 16), **GREY)
    volumes = describe(str(tmp_path / "a.ome.tif")).datasets[""]
    assert [v.meta.voxel_size for v in volumes] == [(2.0, 2.0), (4.0, 4.0), (8.0, 8.0)]
    np.testing.assert_array_equal(volumes[2].read(volumes[2].box), array[::4, ::4])


def test_several_series_are_data_sets(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(_array(8, 9), **GREY)
        file.write(_array(3, 5, 6), **GREY)
    with pytest.raises(UserError, match="2 data sets"):
        open_volume(str(tmp_path / "a.tif"))
    name = list(describe(str(tmp_path / "a.tif")).datasets)[1]
    assert open_volume(str(tmp_path / "a.tif"), dataset=name).box.shape == (3, 5, 6)


def test_reading_a_tile_takes_the_memory_of_the_tile(tmp_path: Path) -> None:
    page = np.zeros((4096, 4096), np.uint8)
    for options in ({"compression": "zlib", "tile": (256, 256)}, {}):
        tifffile.imwrite(tmp_path / "a.tif", page, **GREY, **options)
        volume = open_volume(str(tmp_path / "a.tif"))
        tracemalloc.start()
        volume.read(Box((1000, 1000), (1200, 1200)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < page.nbytes / 8


def test_compressed_stack_is_not_written_into(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _array(2, 8, 9), compression="zlib", **GREY)
    with pytest.raises(UserError, match=r"convert it to a \.zarr"):
        open_volume(str(tmp_path / "a.tif"), writable=True)


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"nzyx.*\.h5"):
        create_volume(path, box=Box.of((2, 2, 3, 4)), dtype="uint8", meta=Meta.plain("nzyx"))
    with pytest.raises(UserError, match="does not hold uint64"):
        create_volume(path, box=Box.of((2, 3, 4)), dtype="uint64", meta=Meta.plain("zyx"))
    assert not (tmp_path / "a.tif").exists()


def test_file_cut_short_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"\xff" * 8)
    with pytest.raises(UserError, match=r"a\.tif"):
        open_volume(str(tmp_path / "a.tif"))
