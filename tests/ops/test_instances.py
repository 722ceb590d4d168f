"""Instances: hand-made maps whose objects are known, and blocks that equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from lamella.ops.instances import Basins, Components, DistanceWatershed, Membranes, ascent
from tests.ops.blocks_of_instances import in_blocks, same_but_for_numbers

METHODS = {
    "components": Components(threshold=0.25),
    "opened and grown": Components(boundaries="hard", opening=1, dilation=2, min_size=0),
    "basins": Basins(threshold=0.3, merge=0.9),
    "rough basins": Basins(threshold=0.3, smooth=0, merge=0.97, min_size=0),
    "membranes": Membranes(threshold=0.3, widest=4),
    "membranes of volumes": Membranes(threshold=0.2, widest=4, slices=False, min_size=10),
    "watershed": DistanceWatershed(threshold=0.5, min_size=5),
    "watershed with intensity": DistanceWatershed(threshold=0.35, intensity=0.5, boundaries="soft", min_size=5),
}


def noise(shape, seed, sigma):
    """Smooth maps from 0 to 1, and coarse steps of them for ties."""
    rng = np.random.default_rng(seed)

    def one():
        values = ndi.gaussian_filter(rng.normal(size=shape), sigma)
        return ((values - values.min()) / np.ptp(values)).astype(np.float32)

    maps = {"objects": one(), "boundaries": 0.5 * one(), "distance": one(), "image": one()}
    return {k: np.round(v * 16).astype(np.float32) / 16 for k, v in maps.items()} if seed % 2 else maps


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("shape", "size", "voxel_size"),
    [((60, 73), (16, 23), None), ((2, 73), (2, 1), (1.0, 1.5)), ((10, 22, 20), (6, 11, 13), (3.0, 1.0, 1.0))],
)
@pytest.mark.parametrize("name", METHODS)
def test_blocks_equal_the_whole(name, shape, size, voxel_size, seed, monkeypatch):
    monkeypatch.setattr(ascent, "AROUND", 5 * seed)  # otherwise every path of so small an image ends in sight
    maps, method = noise(shape, seed, 1.5), METHODS[name].build()
    whole = method(maps, voxel_size)
    assert whole.any()
    assert same_but_for_numbers(in_blocks(method, maps, size, voxel_size), whole)
