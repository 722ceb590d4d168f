"""Conversion keeps voxels, coordinates and metadata; mips are those of the whole; a part goes on and a whole refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.blockwise import Executor, PoisonedBlocks
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.downsample import downsample_max, downsample_mean, downsample_mode
from lamella.prep.convert import CopyJob, as_dtype, convert
from lamella.prep.convert_settings import ConvertSettings
from lamella.prep.downsample import block_size, mip_factors

META = Meta(("z", "y", "x"), (40.0, 4.0, 4.0), ("nanometer",) * 3, name="specimen")
SHAPE = (5, 37, 50)


SMALL = 2000 / 2**20  # MiB; blocks of about 2000 voxels, so that these small volumes have many


def specimen(dtype=np.uint8):
    rng = np.random.default_rng(0)
    return (rng.integers(1, 200, SHAPE) * (rng.random(SHAPE) > 0.2)).astype(dtype)


def stored(path, array, start=None, meta=META, chunk=None):
    box = Box.of(array.shape) if start is None else Box.of(array.shape).shift(start)
    volume = create_volume(str(path), box=box, dtype=array.dtype, meta=meta, chunk=chunk)[0]
    volume.write(box, array)
    return str(path)


def voxels(path, mip=0):
    volume = open_volume(str(path), mip=mip)
    return volume.read(volume.box)


@pytest.fixture
def source(tmp_path):
    return stored(tmp_path / "source.zarr", specimen(), chunk=(2, 16, 16))


@pytest.mark.parametrize(
    "name", ["out.zarr", "out.n5", "out.h5", "out.tif", "out.precomputed", "out/*.png", "out/*.tif"]
)
def test_every_format_keeps_voxels_coordinates_and_voxel_size(tmp_path, name):
    source = stored(tmp_path / "source.zarr", specimen(), start=(3, 8, 6), chunk=(2, 16, 16))
    there, back = tmp_path / name, tmp_path / "back.zarr"
    convert(source, str(there), ConvertSettings(block_mib=SMALL))
    convert(str(there), str(back), ConvertSettings(block_mib=SMALL))
    before, after = open_volume(source), open_volume(str(back))
    assert after.box == before.box
    np.testing.assert_array_equal(voxels(back), specimen())
    assert after.meta.voxel_size == before.meta.voxel_size
    assert after.meta.units == before.meta.units
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("how", "reduce"),
    [
        ({}, downsample_mean),
        ({"ignore_zero": True}, lambda a, f, start: downsample_mean(a, f, start=start, ignore_zero=True)),
        ({"labels": True}, downsample_mode),
        ({"masks": True}, downsample_max),
    ],
)
def test_mips_made_block_by_block_are_those_of_the_whole(tmp_path, how, reduce):
    start = (3, 8, 7)  # not on the grid of the mips
    source = stored(tmp_path / "source.zarr", specimen(), start=start, chunk=(2, 16, 16))
    convert(
        source, str(tmp_path / "out.zarr"), ConvertSettings(mips=4, halve="zyx", chunk="2,8,8", block_mib=SMALL, **how)
    )
    expected = specimen()
    for mip in range(1, 4):
        expected = reduce(expected, (2, 2, 2), start=start)
        start = tuple(s // 2 for s in start)
        volume = open_volume(str(tmp_path / "out.zarr"), mip=mip)
        assert volume.box == Box.of(expected.shape).shift(start)
        np.testing.assert_array_equal(volume.read(volume.box), expected)


def test_a_box_of_one_mip_as_another_type_and_chunk(tmp_path, source):
    convert(source, str(tmp_path / "mips.zarr"), ConvertSettings(mips=2, block_mib=SMALL))
    wanted = ConvertSettings(mip=1, bbox="1:4,2:18,3:20", dtype="float32", chunk="8,8")
    convert(str(tmp_path / "mips.zarr"), str(tmp_path / "out.zarr"), wanted)
    volume = open_volume(str(tmp_path / "out.zarr"))
    assert (str(volume.box), volume.dtype, volume.chunk) == ("1:4,2:18,3:20", np.float32, (1, 8, 8))
    assert volume.meta.voxel_size == (40, 8, 8)
    np.testing.assert_array_equal(voxels(tmp_path / "out.zarr"), voxels(tmp_path / "mips.zarr", 1)[1:4, 2:18, 3:20])


def test_the_copy_says_how_it_was_made(tmp_path, source):
    convert(source, str(tmp_path / "a.zarr"), ConvertSettings(mips=2, block_mib=SMALL))
    convert(str(tmp_path / "a.zarr"), str(tmp_path / "b.n5"))
    made = open_volume(str(tmp_path / "b.n5")).meta.provenance
    assert made["source"].endswith("a.zarr")
    assert made["source_provenance"]["settings"]["mips"] == 2


def test_metadata_that_the_source_lacks_can_be_given(tmp_path):
    source = stored(tmp_path / "s.zarr", specimen(), meta=Meta.plain("zyx"))
    wanted = ConvertSettings(voxel_size="40,10,10", unit="nm", mips=3)
    convert(source, str(tmp_path / "out.zarr"), wanted)
    meta = open_volume(str(tmp_path / "out.zarr"), mip=2).meta
    assert (meta.voxel_size, meta.units) == ((40, 40, 40), ("nanometer",) * 3)


def test_one_sample_of_an_archive_and_one_channel(tmp_path):
    archive = np.stack([specimen(), specimen() // 2, specimen() // 3])
    meta = Meta.plain("nzyx")
    stored(tmp_path / "stacks.h5", archive, meta=meta)
    convert(str(tmp_path / "stacks.h5"), str(tmp_path / "one.zarr"), ConvertSettings(sample=1))
    assert open_volume(str(tmp_path / "one.zarr")).meta.axes == ("z", "y", "x")
    np.testing.assert_array_equal(voxels(tmp_path / "one.zarr"), specimen() // 2)
    convert(str(tmp_path / "stacks.h5"), str(tmp_path / "all.zarr"))
    np.testing.assert_array_equal(voxels(tmp_path / "all.zarr"), archive)
    meta = replace(Meta.plain("czyx"), channel_names=("red", "green", "blue"))
    stored(tmp_path / "colours.zarr", archive, meta=meta)
    convert(str(tmp_path / "colours.zarr"), str(tmp_path / "green.zarr"), ConvertSettings(channel=1))
    assert open_volume(str(tmp_path / "green.zarr")).meta.channel_names == ("green",)


def fail_after(monkeypatch, count):
    """Let block writes fail after ``count`` of them, as when a network drive goes away."""
    write, left = CopyJob.write, [count]

    def failing(self, block, result):
        if left[0] == 0:
            raise OSError("gone")
        left[0] -= 1
        write(self, block, result)

    monkeypatch.setattr(CopyJob, "write", failing)


def test_an_interrupted_conversion_goes_on_and_a_finished_one_refuses(tmp_path, source, monkeypatch):
    out, wanted = str(tmp_path / "out.zarr"), ConvertSettings(mips=2, block_mib=SMALL)
    convert(source, str(tmp_path / "whole.zarr"), wanted)
    fail_after(monkeypatch, 3)
    with pytest.raises(PoisonedBlocks):
        convert(source, out, wanted, executor=Executor(retries=0))
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"settings\.mips was 2, is 3"):
        convert(source, out, ConvertSettings(mips=3, block_mib=SMALL))
    copied, _ = convert(source, out, wanted)
    assert copied.skipped == 3
    for mip in range(2):
        np.testing.assert_array_equal(voxels(out, mip), voxels(tmp_path / "whole.zarr", mip))
    with pytest.raises(UserError, match="exists already"):
        convert(source, out, wanted)
    convert(source, out, ConvertSettings(mips=1), overwrite=True)
    with pytest.raises(UserError, match="only mip 0"):
        open_volume(out, mip=1)


def test_on_a_cluster(tmp_path, source):
    convert(
        source, str(tmp_path / "out.zarr"), ConvertSettings(mips=2, block_mib=SMALL), executor=Executor(dask="local:1")
    )
    np.testing.assert_array_equal(voxels(tmp_path / "out.zarr"), specimen())
    np.testing.assert_array_equal(voxels(tmp_path / "out.zarr", 1), downsample_mean(specimen(), (1, 2, 2)))


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("out.zarr", {"mip": 3}, "only mip 0"),
        ("out.zarr", {"bbox": "0:9,0:9,0:9"}, "does not lie inside"),
        ("out.zarr", {"dtype": "uint7"}, "not a type"),
        ("out.zarr", {"dtype": "uint64", "mips": 2}, "--no-labels"),
        ("out.zarr", {"mips": 20}, "nothing left to halve; ask for 7"),
        ("out.zarr", {"window": "9"}, "2 numbers"),
        ("out.zarr", {"window": "9,1"}, "LOW below HIGH"),
        ("out.zarr", {"chunk": "0,8"}, "above 0"),
        ("out.zarr", {"sample": 1}, "only the axes zyx"),
        ("out.zarr", {"voxel_size": "4,4"}, "3 numbers"),
        ("out.tif", {"mips": 2}, "without mips"),
        ("out.tif", {"ome_version": "0.4"}, "does not end in .zarr"),
        ("source.zarr", {}, "is the source"),
        ("out.xyz", {}, "does not tell its format"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(tmp_path, source, name, wrong, message):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        convert(source, str(tmp_path / name), ConvertSettings(**wrong))
    assert sorted(tmp_path.rglob("*")) == before


def test_ways_to_make_mips_exclude_each_other():
    with pytest.raises(UserError, match="labels and masks"):
        ConvertSettings.load({"labels": True, "masks": True})


dtypes = st.sampled_from([np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.float32, np.float64])


@given(dtypes, dtypes, st.data())
@settings(max_examples=150, deadline=None)
def test_a_type_changes_no_value_beyond_rounding_or_refuses(before, after, data):
    if np.dtype(before).kind == "f":
        values = data.draw(st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=4))
    else:
        info = np.iinfo(before)
        values = data.draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1, max_size=4))
    array = np.array(values, before)
    try:
        result = as_dtype(array, np.dtype(after))
    except UserError:
        assert np.dtype(after).kind != "f" or np.dtype(before).kind != "f"
        return
    assert result.dtype == after
    if np.dtype(after).kind == "f" and np.dtype(before).kind == "f":
        np.testing.assert_allclose(result, array, rtol=1e-6)
    else:
        assert [int(v) for v in result] == [round(float(v)) for v in array]


def test_a_window_maps_its_ends_to_the_ends_of_the_type():
    array = np.array([-5, 0, 50, 100, 2000], np.int16)
    assert as_dtype(array, np.dtype(np.uint8), (0.0, 100.0)).tolist() == [0, 0, 128, 255, 255]
    assert as_dtype(array, np.dtype(np.float32), (0.0, 100.0)).tolist() == [0, 0, 0.5, 1, 1]


def test_z_is_halved_once_voxels_are_about_as_long_as_wide():
    factors = mip_factors(META, Box.of((512, 512, 512)), 6, "auto")
    assert factors == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16), (4, 32, 32)]
    flat = mip_factors(META, Box.of((512, 512, 512)), 3, "yx")
    assert flat == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_a_block_is_whole_chunks_and_no_larger_than_asked(chunk, shape, limit):
    chunk = tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))
    size = block_size(chunk, shape, (1, 8, 8), limit)
    assert all(s % c == 0 for s, c in zip(size, chunk, strict=True))
    assert size == chunk or np.prod(np.minimum(size, shape)) <= limit
