"""OME-Zarr and zarr against the programs of others: what we write they read, and the reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr.writer import write_image, write_labels
from ome_zarr_models import open_ome_zarr

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, describe, open_volume
from tests.io.cases import CASES, Case, create, meta_of, voxels

VERSIONS = {"0.4": FormatV04, "0.5": FormatV05}
OURS = [c for c in CASES if c.name.endswith(".zarr") and not (c.kind or "").startswith("plate")]


@pytest.mark.parametrize("case", OURS, ids=str)
def test_what_we_write_is_valid_and_read_by_others(case: Case, tmp_path: Path) -> None:
    array, path = voxels(case), str(tmp_path / case.name)
    volume = create(case, tmp_path, mips=2)[0]
    volume.write(volume.box, array)
    version = "0.4" if case.kind else "0.5"
    model = open_ome_zarr(zarr.open_group(path, mode="r"))
    assert type(model).__name__ == "Image"
    assert model.ome_zarr_version == version
    (node,) = Reader(parse_url(path, fmt=VERSIONS[version]()))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), array)
    scale, shift = node.metadata["coordinateTransformations"][0]
    meta = volume.meta
    lies = [t + s * v for t, s, v in zip(meta.translation or [0] * 5, volume.box.start, meta.voxel_size, strict=False)]
    assert (scale["scale"], shift["translation"]) == (list(meta.voxel_size), lies)
    assert [a.get("unit", "") for a in node.metadata["axes"]] == list(meta.units)
    assert node.metadata.get("channel_names", []) == list(meta.channel_names)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_others_write_we_read(version: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 60000, (3, 5, 40, 50), dtype=np.uint16)
    path = tmp_path / "theirs.zarr"
    _write_theirs(path, version, array, "czyx")
    found = describe(str(path))
    assert found.format.startswith(f"OME-Zarr {version}")
    assert list(found.datasets) == ["", "labels/cells"]
    volume = open_volume(str(path))
    np.testing.assert_array_equal(volume.read(volume.box), array)
    assert volume.meta.axes == ("c", "z", "y", "x")
    assert volume.meta.voxel_size == (1.0, 0.5, 0.25, 0.25)
    assert volume.meta.units == ("", "micrometer", "micrometer", "micrometer")
    assert volume.meta.channel_names == ("DAPI", "tubulin", "actin")
    coarse = found.datasets[""][1]
    assert coarse.meta.voxel_size[2:] == (0.5, 0.5)
    assert coarse.box.shape[2:] == (20, 25)
    labels = open_volume(str(path), dataset="labels/cells")
    assert labels.read(labels.box).max() == 7


def _write_theirs(path: Path, version: str, array: Any, axes: str) -> None:
    fmt = VERSIONS[version]()
    group = zarr.open_group(str(path), mode="w", zarr_format=fmt.zarr_format)
    scale = {"z": 0.5, "y": 0.25, "x": 0.25}
    window = {"min": 0, "max": 1, "start": 0, "end": 1}
    omero = {"channels": [{"label": n, "color": "FFFFFF", "window": window} for n in ("DAPI", "tubulin", "actin")]}
    write_image(
        array,
        group,
        axes=axes,
        fmt=fmt,
        scale_factors=[{a: 2 if a in "yx" else 1 for a in axes}],
        axes_units=dict.fromkeys("zyx", "micrometer"),
        scale={a: scale.get(a, 1.0) for a in axes},
        omero=omero,
    )
    labels = np.full(array.shape[1:], 7, np.uint8)
    write_labels(labels, group, name="cells", axes=axes[1:], fmt=fmt, scale_factors=[])


def test_single_time_and_channel_are_dropped_unless_lamella_wrote_them(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    array = np.arange(24, dtype=np.uint8).reshape(1, 1, 2, 3, 4)
    write_image(array, group, axes="tczyx", fmt=FormatV04(), scale_factors=[])
    theirs = open_volume(str(tmp_path / "a.zarr"))
    assert theirs.meta.axes == ("z", "y", "x")
    np.testing.assert_array_equal(theirs.read(theirs.box), array[0, 0])
    create_volume(str(tmp_path / "b.zarr"), box=Box.of((1, 2, 3, 4)), dtype="uint8", meta=Meta.plain("czyx"))
    assert open_volume(str(tmp_path / "b.zarr")).meta.axes == ("c", "z", "y", "x")


def test_sharded_zarr_is_read_and_its_shard_is_what_can_be_written_alone(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (4, 64, 64), dtype=np.uint8)
    path = str(tmp_path / "a.zarr")
    store = zarr.create_array(path, shape=array.shape, dtype="uint8", chunks=(1, 16, 16), shards=(2, 32, 32))
    store[...] = array
    volume = open_volume(path, writable=True)
    box = Box((1, 5, 7), (3, 60, 61))
    np.testing.assert_array_equal(volume.read(box), array[box.slices()])
    assert volume.chunk == (2, 32, 32)
    volume.write(box, np.zeros(box.shape, np.uint8))
    assert not zarr.open_array(path)[box.slices()].any()


@pytest.mark.parametrize("version", [2, 3])
def test_plain_group_lists_its_arrays(version: int, tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "c.zarr"), mode="w", zarr_format=version)
    for name, shape in {"raw": (2, 3, 4), "volumes/labels": (5, 2, 3, 4)}.items():
        group.create_array(name, shape=shape, dtype="uint8", fill_value=3)
    path = str(tmp_path / "c.zarr")
    with pytest.raises(UserError, match=r"'raw', 'volumes/labels'; choose one, for example .*/raw$"):
        open_volume(path)
    assert open_volume(path, dataset="volumes/labels").meta.axes == ("c", "z", "y", "x")
    raw = open_volume(path, dataset="raw")
    assert (raw.read(raw.box) == 3).all()
    assert open_volume(f"{path}/raw").box == raw.box


def test_dimension_names_give_the_axes(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 3, 2), dtype="uint8", dimension_names=("x", "y", "z"))
    volume = open_volume(str(tmp_path / "a.zarr"))
    assert volume.meta.axes == ("x", "y", "z")


def test_versions_before_transformations_tell_their_mips_by_shape(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "old.zarr"), mode="w", zarr_format=2)
    for i, n in enumerate((40, 20)):
        group.create_array(str(i), shape=(2, n, n), dtype="uint8")
    group.attrs["multiscales"] = [
        {"version": "0.3", "axes": ["z", "y", "x"], "datasets": [{"path": "0"}, {"path": "1"}]}
    ]
    assert open_volume(str(tmp_path / "old.zarr"), mip=1).meta.voxel_size == (1.0, 2.0, 2.0)


def test_scale_of_the_whole_pyramid_comes_after_that_of_the_level(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=(2, 4), dtype="uint8")
    level = [{"type": "scale", "scale": [2, 3]}, {"type": "translation", "translation": [10, 20]}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": n, "type": "space"} for n in "yx"],
            "datasets": [{"path": "0", "coordinateTransformations": level}],
            "coordinateTransformations": [{"type": "scale", "scale": [10, 100]}],
        }
    ]
    meta = open_volume(str(tmp_path / "a.zarr")).meta
    assert (meta.voxel_size, meta.translation) == ((20.0, 300.0), (100.0, 2000.0))


def test_missing_mip_array_is_named(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.4", "axes": ["y", "x"], "datasets": [{"path": "gone"}]}]
    with pytest.raises(UserError, match="'gone', which is not there"):
        open_volume(str(tmp_path / "a.zarr"))


def test_meta_survives_a_copy_to_the_other_version(tmp_path: Path) -> None:
    case = Case("v.zarr", kind="ome-zarr-0.4", axes="czyx")
    create(case, tmp_path)
    source = open_volume(str(tmp_path / "v.zarr"))
    create_volume(str(tmp_path / "w.zarr"), box=source.box, dtype=source.dtype, meta=source.meta)
    assert open_volume(str(tmp_path / "w.zarr")).meta == meta_of(case)
