"""N5 as other writers lay it out, made byte by byte from the format's description."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.io import open_volume
from tests.io.cases import Case, box_of, new, voxels


def _write_array(folder: Path, array: Any, **attributes: Any) -> None:
    """One gzip block; ``array`` is z y x and N5 names x first."""
    folder.mkdir(parents=True)
    size = array.shape[::-1]
    metadata = {"dimensions": size, "blockSize": size, "dataType": array.dtype.name, "compression": {"type": "gzip"}}
    (folder / "attributes.json").write_text(json.dumps({**metadata, **attributes}))
    block = folder.joinpath(*["0"] * array.ndim)
    block.parent.mkdir(parents=True)
    header = struct.pack(">HH" + "I" * array.ndim, 0, array.ndim, *size)
    block.write_bytes(header + gzip.compress(array.astype(array.dtype.newbyteorder(">")).tobytes()))


def _array(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)


def test_block_by_hand_reads_as_z_y_x(tmp_path: Path) -> None:
    array = _array(3, 4, 5)
    _write_array(tmp_path / "a.n5", array, pixelResolution={"unit": "nm", "dimensions": [4, 5, 40]})
    volume = open_volume(str(tmp_path / "a.n5"))
    np.testing.assert_array_equal(volume.read(volume.box), array)
    assert (volume.meta.voxel_size, volume.meta.units[0]) == ((40.0, 5.0, 4.0), "nanometer")


def test_our_blocks_are_what_the_format_says(tmp_path: Path) -> None:
    case = Case("v.n5", axes="zyx", dtype="uint16")
    volume = new(case, tmp_path, chunk=box_of(case).shape)
    volume.write(volume.box, voxels(case))
    block = (tmp_path / "v.n5" / "s0" / "0" / "0" / "0").read_bytes()
    assert struct.unpack(">HHIII", block[:16]) == (0, 3, *box_of(case).shape[::-1])
    stored = np.frombuffer(gzip.decompress(block[16:]), ">u2").reshape(box_of(case).shape)
    np.testing.assert_array_equal(stored, voxels(case))


def test_pyramid_with_factors_in_its_group(tmp_path: Path) -> None:
    path = tmp_path / "a.n5" / "em"
    _write_array(path / "s0", _array(2, 8, 8))
    _write_array(path / "s1", _array(2, 4, 4))
    group = {
        "pixelResolution": {"unit": "um", "dimensions": [0.1, 0.1, 0.5]},
        "downsamplingFactors": [[1, 1, 1], [2, 2, 1]],
    }
    (path / "attributes.json").write_text(json.dumps(group))
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.0.0"}')
    for volume in (open_volume(str(path), mip=1), open_volume(str(tmp_path / "a.n5"), mip=1, dataset="em")):
        assert volume.box.shape == (2, 4, 4)
        assert volume.meta.voxel_size == (0.5, 0.2, 0.2)
        assert volume.meta.units == ("micrometer",) * 3


def test_transform_in_the_array_follows_its_own_axes(tmp_path: Path) -> None:
    transform = {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "translate": [0, 2.5, 2], "units": ["nm", "nm", "nm"]}
    _write_array(tmp_path / "a.n5", _array(2, 3, 4), transform=transform)
    meta = open_volume(str(tmp_path / "a.n5")).meta
    assert (meta.voxel_size, meta.translation) == ((40.0, 5.0, 4.0), (0.0, 2.5, 2.0))


def test_container_lists_its_arrays(tmp_path: Path) -> None:
    for name in ("raw", "labels/cells"):
        _write_array(tmp_path / "a.n5" / name, _array(2, 3, 4))
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.0.0"}')
    with pytest.raises(UserError, match="'labels/cells', 'raw'"):
        open_volume(str(tmp_path / "a.n5"))
    assert open_volume(str(tmp_path / "a.n5"), dataset="raw").box.shape == (2, 3, 4)
