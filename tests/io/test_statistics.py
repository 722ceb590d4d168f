"""A fair sample of voxels: all of a small volume; of a large one pieces from everywhere."""

import numpy as np

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.io.statistics import sample_voxels


def write(path, voxels, axes):
    (volume,) = create_volume(str(path), box=Box.of(voxels.shape), dtype=voxels.dtype, meta=Meta.plain(axes))
    volume.write(volume.box, voxels)
    return volume


def test_small_volumes_are_taken_whole(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (3, 4, 20, 30)).astype(np.uint8)
    volume = write(tmp_path / "a.zarr", voxels, "czyx")
    assert np.array_equal(sample_voxels(volume), voxels.reshape(3, -1))
    part = Box((0, 1, 0, 0), (3, 2, 20, 30))
    assert np.array_equal(sample_voxels(volume, part), voxels[:, 1].reshape(3, -1))
    assert sample_voxels(write(tmp_path / "b.zarr", voxels[0, 0], "yx")).shape == (1, 600)


def test_of_large_volumes_pieces_span_the_whole(tmp_path):
    y, x = np.mgrid[:1500, :1900]
    volume = write(tmp_path / "a.zarr", np.stack([y, x]).astype(np.uint16), "cyx")
    sample = sample_voxels(volume, limit=6 * 256**2)
    assert sample.shape == (2, 6 * 256**2)
    assert sample.min(axis=1).tolist() == [0, 0]
    assert sample.max(axis=1).tolist() == [1499, 1899]
    assert np.abs(sample.mean(axis=1) / [749.5, 949.5] - 1).max() < 0.01
    assert np.array_equal(sample, sample_voxels(volume, limit=6 * 256**2))


def test_of_deep_volumes_sections_from_everywhere(tmp_path):
    voxels = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 64, 64))
    volume = write(tmp_path / "a.zarr", np.ascontiguousarray(voxels), "zyx")
    sample = sample_voxels(volume, limit=8 * 64 * 64)
    assert len(np.unique(sample)) == 8
    assert sample.min() == 0
    assert sample.max() == 39
