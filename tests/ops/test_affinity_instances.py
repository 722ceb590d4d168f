"""Objects of affinities: perfect ones give the truth, thresholds nest, merges replay, backgrounds stay, blocks equal the whole."""

from __future__ import annotations

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.affinities import affinities, boundary_map, nearest, nearest_affinities
from lamella.ops.instances import Agglomeration, Mutex
from lamella.ops.instances.fragments import FragmentsConfig, make_fragments
from lamella.ops.matching import Overlaps
from lamella.ops.matching_partition import partition_figures
from lamella.ops.matching_scores import compare
from tests.ops.blocks_of_instances import same_but_for_numbers


def tiles(shape, step, gap=0):
    """Square objects in a raster, ``gap`` voxels of background between them."""
    cells = [np.arange(n) // s for n, s in zip(shape, step, strict=True)]
    labels = np.ravel_multi_index(np.meshgrid(*cells, indexing="ij"), [c[-1] + 1 for c in cells]) + 1
    edges = [np.arange(n) % s < gap if n > s else np.zeros(n, bool) for n, s in zip(shape, step, strict=True)]
    outside = np.any(np.meshgrid(*edges, indexing="ij"), axis=0)
    return np.where(outside, 0, labels)


def maps_of(labels, offsets=None):
    return {"affinities": affinities(labels, offsets or nearest(labels.ndim))[0].astype(np.float32)}


def blurred(labels, seed=0):
    """Affinities as a net predicts them: uncertain, most of all at edges."""
    from scipy import ndimage as ndi

    sure = maps_of(labels)["affinities"]
    noise = np.random.default_rng(seed).normal(0, 0.12, sure.shape)
    return {
        "affinities": np.clip(ndi.gaussian_filter(sure, (0, *[0.6] * labels.ndim)) + noise, 0, 1).astype(np.float32)
    }


TRUTHS = {
    "plane": tiles((40, 52), (20, 26), gap=2),
    "serial sections": tiles((3, 36, 36), (3, 18, 18), gap=2),
    "volume": tiles((14, 32, 32), (14, 16, 16), gap=2),
}


@pytest.mark.parametrize("seeds", ["maxima", "grid", "minima"])
@pytest.mark.parametrize("name", TRUTHS)
def test_affinities_of_objects_give_the_objects(name, seeds):
    true = TRUTHS[name]
    method = Agglomeration(seeds=seeds, grid=7, slices=name != "volume").build()
    found = compare(Overlaps.of(true, np.where(true > 0, method(maps_of(true)), 0)))
    assert np.sort(found.iou)[-true.max() :].min() > 0.8  # corners have no affinities


@pytest.mark.parametrize("name", TRUTHS)
def test_background_is_no_object(name):
    true = np.pad(TRUTHS[name], [(0, 0)] * (TRUTHS[name].ndim - 2) + [(9, 9), (9, 9)])
    found = Agglomeration(has_background=True, slices=name != "volume").build()(blurred(true))
    assert len(np.unique(found)) == len(np.unique(true))
    assert np.mean((found > 0) == (true > 0)) > 0.9
    assert not found[..., :4, :].any()


@pytest.mark.parametrize("scorer", [{}, {"scorer": "mean"}, {"quantile": 75, "start_at_max": True}])
def test_thresholds_nest_and_the_history_tells_how(scorer):
    maps = blurred(tiles((60, 60), (15, 15)), seed=3)
    method = Agglomeration(seeds="minima", **scorer).build()
    fragments = method.fragments(maps).labels
    current, counts = fragments.copy(), []
    for found in method.series(maps, [0.2, 0.5, 0.8]):
        for merge in found.merges:
            assert merge.c in (merge.a, merge.b)
            assert merge.score <= found.threshold
            current[(current == merge.a) | (current == merge.b)] = merge.c
        np.testing.assert_array_equal(current, found.labels)
        counts.append(len(np.unique(found.labels)))
    assert sorted(counts, reverse=True) == counts
    assert counts[0] < len(np.unique(fragments))


def test_cells_that_touch_stay_apart():
    places = np.random.default_rng(0).uniform(0, 120, (16, 2))
    grid = np.stack(np.indices((120, 120)), -1)
    true = np.argmin(((grid[:, :, None] - places) ** 2).sum(-1), -1) + 1
    maps = maps_of(true)
    both, one = (
        partition_figures(Overlaps.of(true, Agglomeration(both_sides=sides).build()(maps)))["voi"]
        for sides in (True, False)
    )
    assert both < 0.6
    assert both < one / 2


def test_fragments_lie_in_one_section_each_if_asked():
    maps = nearest_affinities(maps_of(TRUTHS["serial sections"])["affinities"], nearest(3))
    flat, whole = (make_fragments(maps, FragmentsConfig(slices=slices)).labels for slices in (True, False))
    assert not set(np.unique(flat[0])) & set(np.unique(flat[1]))
    assert set(np.unique(whole[0])) & set(np.unique(whole[1]))


def test_seeds_of_the_background_are_apart_and_follow_their_seed():
    true = np.zeros((60, 60), int)
    true[20:30, 20:30] = 1
    near = nearest_affinities(maps_of(true)["affinities"], nearest(2))
    made = [make_fragments(near, FragmentsConfig(has_background=True, background_apart=8, seed=s)) for s in (0, 0, 1)]
    places = np.argwhere(made[0].seeds == made[0].background)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places)) * 99
    assert 1 < len(places) <= 20
    assert distance.min() >= 8
    assert not true[tuple(places.T)].any()
    np.testing.assert_array_equal(made[0].seeds, made[1].seeds)
    assert (made[0].seeds != made[2].seeds).any()


def test_the_boundary_map_is_the_mean_that_is_missing():
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2) / 8
    near = nearest_affinities(values, nearest(2))
    np.testing.assert_allclose(near, [[[2 / 8, 3 / 8]] * 2, [[5 / 8] * 2, [7 / 8] * 2]])
    np.testing.assert_allclose(boundary_map(near), 1 - near.mean(axis=0))


def test_the_voxel_after_serves_as_the_one_before():
    true = tiles((20, 20), (10, 10), gap=1)
    forth, back = (
        nearest_affinities(affinities(true, offsets)[0], offsets) for offsets in (((1, 0), (0, 1)), nearest(2))
    )
    np.testing.assert_array_equal(forth[:, 1:, 1:], back[:, 1:, 1:])


def test_mutex_keeps_apart_what_a_gap_would_join():
    true = tiles((12, 24), (12, 12))
    offsets = (*nearest(2), (0, -4), (-4, 0))
    maps = maps_of(true, offsets)
    maps["affinities"][:2] = 0.4 + 0.6 * maps["affinities"][:2]
    maps["affinities"][1, 5, 12] = 0.9  # a hole in a weak boundary
    near = {"affinities": maps["affinities"][:2]}
    joined, parted = Mutex().build()(near), Mutex(offsets=offsets).build()(maps)
    assert len(np.unique(joined)) == 1
    assert same_but_for_numbers(parted, true)


def test_mutex_leaves_background_where_nothing_attracts():
    true = TRUTHS["volume"]
    assert same_but_for_numbers(Mutex().build()(maps_of(true)), true)


@pytest.mark.parametrize("config", [Agglomeration(reach=6, has_background=True), Mutex(reach=6)])
def test_blocks_equal_the_whole_where_objects_are_clear(config):
    from lamella.blockwise import cover
    from lamella.core.box import Box
    from lamella.ops.instances import Pieces

    true = np.pad(tiles((24, 36), (12, 12), gap=3), 10)
    maps, method, whole = maps_of(true)["affinities"], config.build(), Box.of(true.shape)
    blocks = cover(whole, (11, 20), method.context, bounds=whole)
    parts = [method.parts({"affinities": maps[(slice(None), *b.read.slices())]}, b.write, b.read) for b in blocks]
    first = np.cumsum([0, *(len(p.pieces) for p in parts)])[:-1]
    rows = np.full(true.shape, -1)
    for block, part, offset in zip(blocks, parts, first, strict=True):
        rows[block.write.slices()] = np.where(part.labels > 0, part.labels + offset - 1, -1)
    own = np.concatenate([p.links.labels + o - 1 for p, o in zip(parts, first, strict=True)])
    other = rows[tuple(np.concatenate([p.links.voxels for p in parts]).T)]
    saddles = np.concatenate([p.links.saddles for p in parts])
    known = other >= 0
    objects = method.join(Pieces.stack([p.pieces for p in parts]), np.stack([own, other], 1)[known], saddles[known])
    assert known.any()
    found = np.where(rows >= 0, objects[rows], 0)
    assert same_but_for_numbers(found, method({"affinities": maps}))


def test_nothing_is_printed(capfd):
    Agglomeration().build()(maps_of(TRUTHS["plane"]))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("thresholds", "told"), [([], "one at least"), ([0.5, 1.0], r"1 is outside \(0, 1\)"), ([0.5, 0.5], "twice")]
)
@pytest.mark.parametrize("config", [Agglomeration(), Mutex()])
def test_thresholds_that_cannot_be_are_refused(config, thresholds, told):
    with pytest.raises(UserError, match=told):
        list(config.build().series(maps_of(TRUTHS["plane"]), thresholds))


def test_offsets_that_do_not_fit_are_refused():
    maps = maps_of(TRUTHS["plane"], ((-1, 0), (0, -3)))
    with pytest.raises(UserError, match=r"\[0, -1\] is not among the offsets"):
        Agglomeration(offsets=((-1, 0), (0, -3))).build()(maps)
    with pytest.raises(UserError, match="2 affinities for 1 offsets"):
        Mutex(offsets=((-1, 0),)).build()(maps)
