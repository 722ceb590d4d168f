"""Instances: hand-made maps whose objects are known, and blocks that equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage as ndi

from lamella.core.errors import UserError
from lamella.ops.instances import Basins, Components, DistanceWatershed, Membranes, ascent
from lamella.ops.matching import Overlaps
from lamella.ops.matching_scores import compare
from tests.ops.blocks_of_instances import in_blocks, same_but_for_numbers

METHODS = {
    "components": Components(threshold=0.25),
    "opened and grown": Components(boundaries="hard", opening=1, dilation=2, min_size=0),
    "basins": Basins(threshold=0.3, merge=0.9),
    "basins and valleys": Basins(threshold=0.3, merge=0.95, valleys=0.5),
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


def discs(*centres_and_radii, shape=(40, 60)):
    """True labels, and their perfect maps: distance 1 in the middle of each, 0 at its edge."""
    grid = np.indices(shape)
    labels, distance = np.zeros(shape, int), np.zeros(shape, np.float32)
    for number, (*centre, radius) in enumerate(centres_and_radii, 1):
        height = 1 - np.sqrt(((grid - np.reshape(centre, (-1,) + (1,) * len(shape))) ** 2).sum(axis=0)) / radius
        labels = np.where((height > 0) & (height > distance), number, labels)
        distance = np.maximum(distance, height)
    objects = (labels > 0).astype(np.float32)
    return labels, {"objects": objects, "distance": distance.astype(np.float32), "boundaries": 0 * objects}


TOUCHING = ((20, 18, 11), (20, 38, 11)), ((20, 15, 12), (20, 30, 5)), ((6, 12, 12, 6), (6, 12, 22, 6))


@pytest.mark.parametrize("centres", TOUCHING, ids=["equal", "unequal", "balls"])
def test_basins_of_perfect_maps_are_the_objects(centres):
    shape = (40, 60) if len(centres[0]) == 3 else (12, 24, 34)
    true, maps = discs(*centres, shape=shape)
    assert len(np.unique(Components().build()(maps))) == 2  # they touch
    for smooth in (0.0, 1.0):
        found = compare(Overlaps.of(true, Basins(smooth=smooth).build()(maps)))
        assert len(found.predicted) == 2
        assert np.sort(found.iou)[-2:].min() > 0.94


def test_the_share_of_the_pass_decides_what_is_one_object():
    """Maxima of 1 and 0.8 with a pass of 0.6 between them: three quarters of the lower."""
    distance = np.float32([[0.2, 1.0, 0.6, 0.8, 0.2]])
    maps = {"objects": np.ones((1, 5), np.float32), "distance": distance}
    assert Basins(smooth=0, min_size=0, merge=0.76).build()(maps).tolist() == [[1, 1, 1, 2, 2]]
    assert Basins(smooth=0, min_size=0, merge=0.74).build()(maps).tolist() == [[1, 1, 1, 1, 1]]


def test_boundaries_deepen_the_valleys_between_cells():
    distance, boundaries = np.float32([[1.0, 0.9, 1.0]]), np.float32([[0.0, 0.6, 0.0]])
    maps = {"objects": np.ones((1, 3), np.float32), "distance": distance, "boundaries": boundaries}
    for valleys, merge, count in [(0, 0.89, 1), (1, 0.66, 2), (1, 0.64, 1)]:  # the pass is .9, then (.9 + .4) / 2
        found = Basins(smooth=0, min_size=0, merge=merge, valleys=valleys).build()(maps)
        assert found.max() == count
    with pytest.raises(UserError, match="boundaries"):
        Basins(valleys=1).build()({name: maps[name] for name in ("objects", "distance")})


def test_level_ground_is_one_basin():
    distance = np.float32([[0.1, 0.5, 0.5, 0.5, 0.5, 0.2]])
    maps = {"objects": np.ones((1, 6), np.float32), "distance": distance}
    assert Basins(smooth=0, min_size=0, merge=2).build()(maps).max() == 1


def test_a_shallow_maximum_on_a_ridge_does_not_tie_two_objects_together():
    distance = np.float32([[1.0, 0.28, 0.3, 0.28, 1.0]])
    maps = {"objects": np.ones((1, 5), np.float32), "distance": distance}
    found = Basins(smooth=0, min_size=0, merge=0.8).build()(maps)[0]
    assert found[0] != found[-1]
    assert len(np.unique(found)) == 2


def test_distances_across_sections_count_with_their_length():
    """Two balls of voxels ten times as deep as wide: flat discs, one above the other, whose waist shows only in true lengths."""
    z, y, x = np.indices((5, 41, 41))
    near = np.hypot(y - 20, x - 20) < np.where(z == 2, 4, 15)
    maps = {"objects": near.astype(np.float32)}
    method = DistanceWatershed(smooth=0, median=1, suppress=8).build()
    assert method(maps, (10.0, 1.0, 1.0)).max() == 2
    assert DistanceWatershed(smooth=0, median=1, suppress=8, z_step=10).build()(maps).max() == 2


def test_the_watershed_cuts_at_the_waist_and_gives_every_patch_a_seed():
    true, maps = discs((20, 15, 11), (20, 34, 11), (5, 52, 4))
    found = compare(Overlaps.of(true, DistanceWatershed().build()(maps)))
    assert len(found.predicted) == 3
    assert np.sort(found.iou)[-3:].min() > 0.9
    crowded = discs((20, 20, 11), (20, 37, 4))[1]  # within the distance at which maxima are suppressed, but apart
    assert DistanceWatershed(suppress=25, min_size=0).build()(crowded).max() == 2


def test_components_are_opened_and_grown_back():
    mask = np.zeros((20, 40), np.float32)
    mask[5:15, 3:13], mask[5:15, 20:30], mask[9, 13:20] = 1, 1, 1  # two squares and a bridge
    maps = {"objects": mask, "boundaries": 0 * mask}
    assert Components().build()(maps).max() == 1
    apart = Components(opening=1).build()(maps)
    assert apart.max() == 2
    grown = Components(opening=1, dilation=2).build()(maps)
    assert grown.max() == 2
    assert (grown[apart > 0] == apart[apart > 0]).all()
    assert grown[10, 1] == apart[10, 3]
    assert not grown[10, 0]


def test_boundaries_part_objects_softly_or_hard():
    maps = {"objects": np.full((5, 21), 0.9, np.float32), "boundaries": np.zeros((5, 21), np.float32)}
    maps["boundaries"][:, 10] = 0.45
    assert Components(min_size=0).build()(maps).max() == 2  # 0.9 · 0.55 is below a half
    assert Components(min_size=0, boundaries="hard").build()(maps).max() == 1
    assert Components(min_size=0, boundaries="hard", boundary_threshold=0.4).build()(maps).max() == 2
    assert Components(min_size=0, boundaries="none").build()(maps).max() == 1


def test_a_gap_in_a_membrane_does_not_join_two_cells():
    membrane = np.zeros((40, 61), np.float32)
    membrane[:, 29:32] = 1
    membrane[18:21] = 0  # three voxels wide
    maps = {"boundaries": ndi.gaussian_filter(membrane, 0.7)}
    found = Membranes().build()(maps)
    assert found.max() == 2
    assert (found > 0).all()
    assert len(np.unique(found[:, :28])) == 1 == len(np.unique(found[:, 33:]))
    assert Components(boundaries="none").build()({"objects": 1 - membrane}).max() == 1


def test_sections_of_membranes_are_labelled_by_themselves():
    maps = noise((4, 30, 34), 0, 2)
    volume = Membranes(threshold=0.25).build()(maps)
    numbers = [set(np.unique(section)) for section in volume]
    assert all(not a & b for k, a in enumerate(numbers) for b in numbers[:k])
    alone = Membranes(threshold=0.25).build()({"boundaries": maps["boundaries"][2]})
    assert same_but_for_numbers(volume[2], alone)


@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS)
def test_objects_are_large_enough_and_numbered_without_gaps(config):
    found = config.build()(noise((50, 60), 2, 1.5))
    sizes = np.bincount(found.ravel())[1:]
    assert found.dtype == np.int32
    assert sizes.min() >= max(config.min_size, 1)


@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_level_maps_have_one_object_or_none(config, value):
    maps = {name: np.full((9, 12), value, np.float32) for name in ("objects", "distance", "image")}
    maps["boundaries"] = np.zeros((9, 12), np.float32)
    found = config.model_copy(update={"min_size": 0}).build()(maps)
    assert len(np.unique(found)) == 1
    assert found.max() in (0, 1)


def test_missing_and_unequal_maps_are_named():
    with pytest.raises(UserError, match="need the maps objects, distance, but distance is not among those given"):
        Basins().build()({"objects": np.zeros((4, 4))})
    with pytest.raises(UserError, match=r"must share one shape.*objects 4x4, distance 4x5"):
        Basins().build()({"objects": np.zeros((4, 4)), "distance": np.zeros((4, 5))})
    with pytest.raises(UserError, match="2 lengths above 0"):
        Basins().build()({"objects": np.zeros((4, 4)), "distance": np.zeros((4, 4))}, (1.0, 0.0))


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.float32, (9, 14), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
    st.integers(1, 9),
    st.integers(1, 14),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_basins_in_blocks_are_those_of_the_whole_however_level(distance, height, width, merge):
    maps = {"objects": (distance > 0).astype(np.float32), "distance": distance}
    method = Basins(smooth=0, min_size=0, merge=merge).build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ascent, "AROUND", 0)
        assert same_but_for_numbers(in_blocks(method, maps, (height, width)), method(maps))
