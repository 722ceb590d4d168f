"""Precomputed volumes against cloud-volume, both ways, and sharded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from cloudvolume import CloudVolume

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from tests.io.cases import CASES, Case, box_of, create, voxels


def _theirs(path: Path, mip: int = 0) -> Any:
    return CloudVolume(f"file://{path}", mip=mip, progress=False, fill_missing=True, cache=False)


@pytest.mark.parametrize("case", [c for c in CASES if c.kind == "precomputed"], ids=str)
def test_cloud_volume_reads_what_we_write(case: Case, tmp_path: Path) -> None:
    array = voxels(case)
    volumes = create(case, tmp_path, mips=2)
    volumes[0].write(volumes[0].box, array)
    volumes[1].write(volumes[1].box, np.full(volumes[1].box.shape, 9, case.dtype))
    cloud, coarse = _theirs(tmp_path / "v"), _theirs(tmp_path / "v", 1)
    z = box_of(case).start[-3] if "z" in case.axes else 0
    assert list(cloud.bounds.minpt) == [5, 16, z]
    assert list(cloud.resolution) == [4.0, 4.5, 40.0 if "z" in case.axes else 1.0]
    np.testing.assert_array_equal(np.asarray(cloud[cloud.bounds]).transpose(3, 2, 1, 0).reshape(array.shape), array)
    assert (np.asarray(coarse[coarse.bounds]) == 9).all()


@pytest.mark.parametrize(
    ("dtype", "encoding"), [("uint8", "raw"), ("uint16", "raw"), ("uint64", "compressed_segmentation")]
)
def test_we_read_what_cloud_volume_writes(dtype: str, encoding: str, tmp_path: Path) -> None:
    info = CloudVolume.create_new_info(
        num_channels=1,
        layer_type="segmentation" if dtype == "uint64" else "image",
        data_type=dtype,
        encoding=encoding,
        resolution=[4, 4, 40],
        voxel_offset=[100, -20, 7],
        chunk_size=[16, 16, 4],
        volume_size=[50, 30, 9],
    )
    cloud = CloudVolume(f"file://{tmp_path}/c", info=info, progress=False, cache=False)
    cloud.add_scale((2, 2, 1))
    cloud.commit_info()
    array = np.random.default_rng(0).integers(0, 200, (50, 30, 9, 1)).astype(dtype)
    cloud[:, :, :] = array
    volume = open_volume(f"precomputed://{tmp_path}/c")
    assert volume.box == Box((7, -20, 100), (16, 10, 150))
    assert volume.meta.voxel_size == (40.0, 4.0, 4.0)
    assert volume.meta.units == ("nanometer",) * 3
    np.testing.assert_array_equal(volume.read(volume.box), array[..., 0].T)
    coarse = open_volume(f"{tmp_path}/c", mip=1)
    assert (coarse.meta.voxel_size, coarse.meta.translation) == ((40.0, 8.0, 8.0), (0.0, 2.0, 2.0))
    assert not coarse.read(coarse.box).any()


def test_sharded_volume_is_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (40, 30, 6, 1), dtype=np.uint8)
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 1,
        "minishard_bits": 1,
        "shard_bits": 1,
        "hash": "identity",
    }
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": f"file://{tmp_path}/s/",
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {
            "size": [40, 30, 6], "resolution": [4, 4, 40], "chunk_size": [16, 16, 2], "encoding": "raw", "sharding": sharding,
        },
    }  # fmt: skip
    ts.open(spec, create=True).result().write(array).result()
    volume = open_volume(f"{tmp_path}/s")
    np.testing.assert_array_equal(volume.read(volume.box), array[..., 0].T)


def test_units_become_nanometres(tmp_path: Path) -> None:
    meta = Meta(("z", "y", "x"), (0.04, 0.004, 0.004), ("micrometer",) * 3)
    create_volume(f"precomputed://{tmp_path}/v", box=Box.of((2, 3, 4)), dtype="uint8", meta=meta)
    assert json.loads((tmp_path / "v" / "info").read_text())["scales"][0]["resolution"] == pytest.approx([4, 4, 40])
    odd = Meta(("z", "y", "x"), (1.0,) * 3, ("furlong",) * 3)
    with pytest.raises(UserError, match="'furlong'"):
        create_volume(f"precomputed://{tmp_path}/w", box=Box.of((2, 3, 4)), dtype="uint8", meta=odd)


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float64"):
        create_volume(f"precomputed://{tmp_path}/v", box=Box.of((2, 3, 4)), dtype="float64", meta=Meta.plain("zyx"))
    with pytest.raises(UserError, match="nzyx"):
        create_volume(f"precomputed://{tmp_path}/v", box=Box.of((2, 3, 4, 5)), dtype="uint8", meta=Meta.plain("nzyx"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "info").write_text('{"@type": "neuroglancer_annotations_v1"}')
    with pytest.raises(UserError, match="neuroglancer_annotations_v1"):
        open_volume(f"{tmp_path}/a")
