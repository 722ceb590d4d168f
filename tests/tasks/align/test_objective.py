"""Laws of what the aligner learns from."""

import pytest
import torch

from lamella.core.rng import stream
from lamella.ops.field import invert, rotate180, smooth_field, warp
from lamella.ops.masks import ternary
from lamella.ops.similarity import MeanSquare
from lamella.tasks.align import objective as o


def texture(size=(64, 64), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.9 * torch.nn.functional.avg_pool2d(
        torch.rand(1, 1, size[0] + 2, size[1] + 2, generator=generator), 3, 1
    )


def pair(source, target, **masks):
    return o.Pair(source, target, torch.ones_like(source), torch.ones_like(target), **masks)


def field(amplitude=3.0):
    return smooth_field(stream(0, "field"), (64, 64), amplitude, 32.0)


def test_the_true_field_is_better_than_none_and_than_a_wrong_one():
    target, known = texture(), field()
    source = warp(target, invert(known), padding="border")
    scores = [o.similarity(o.SimilarityTerm(), pair(source, target), f) for f in (known, 0 * known, -known)]
    assert scores[0] < 0.5 * scores[1]
    assert scores[0] < 0.5 * scores[2]


def test_missing_data_and_what_looks_outside_does_not_count():
    target, still = texture(), torch.zeros(1, 2, 64, 64)
    p = pair(target.clone(), target)
    p.source_valid[..., 20:30, 20:30] = 0
    p.source[..., 20:30, 20:30] = 9.0
    term = o.SimilarityTerm(penalty=MeanSquare())
    assert o.similarity(term, p, still) == 0
    away = torch.full_like(still, 60.0)
    assert o.looks_inside(away).sum() == 16


def test_similarity_is_weighed_by_the_masks():
    target, still = texture(), torch.zeros(1, 2, 64, 64)
    inside = torch.zeros(1, 1, 64, 64)
    inside[..., 30:34, 30:34] = 1
    mask = ternary(inside, 6)
    source = target.clone()
    source[..., 26:28, 26:28] += 0.5  # wrong only near the defect
    values = {
        near: o.similarity(
            o.SimilarityTerm(penalty=MeanSquare(), near=near), pair(source, target, source_mask=mask), still
        ).item()
        for near in (0.0, 1.0, 5.0)
    }
    assert values[0.0] == 0
    assert values[5.0] > 4 * values[1.0] > 0
    source = target.clone()
    source[..., 31:33, 31:33] += 0.5  # wrong only inside
    assert o.similarity(o.SimilarityTerm(penalty=MeanSquare()), pair(source, target, source_mask=mask), still) == 0


def test_smoothness_is_released_at_defects():
    target = texture()
    inside = torch.zeros(1, 1, 64, 64)
    inside[..., :, 30:34] = 1
    torn = torch.zeros(1, 2, 64, 64)
    torn[:, 1, :, 32:] = 4.0
    mask = ternary(inside, 6)
    term = o.SmoothnessTerm(near=0.0, inside=0.0, radius=2)
    whole = o.smoothness(term, pair(target, target), torn, 0)
    released = o.smoothness(term, pair(target, target, source_mask=mask), torn, 0)
    assert released < 0.05 * whole


@pytest.mark.parametrize("level", [1, 2, 3])
def test_coarser_pairs_keep_their_dynamic_range(level):
    p = pair(texture(), texture(seed=1))
    coarse = p.at_level(level)
    assert coarse.source.std() == pytest.approx(p.source.std().item(), rel=0.05)
    assert p.at_level(level, restore_range=False).source.std() < 0.9 * p.source.std()
    assert coarse.source.mean() == pytest.approx(p.source.mean().item(), rel=0.05)


def test_missing_pixels_do_not_darken_coarser_ones():
    source = torch.full((1, 1, 8, 8), 0.8)
    source[..., 3, 3] = 0
    p = o.Pair(source, source, (source > 0).float(), (source > 0).float())
    torch.testing.assert_close(p.halved().source, torch.full((1, 1, 4, 4), 0.8))


def test_consensus_is_zero_for_a_net_that_does_not_care_which_way_is_up():
    known, valid = field(), torch.ones(1, 1, 64, 64)
    assert o.consensus(known, rotate180(known), valid) == 0
    assert o.consensus(known, known, valid) > 1
    bias = torch.full_like(known, 0.5)
    assert o.consensus(known + bias, rotate180(known) + bias, valid).item() == pytest.approx(2**0.5, abs=0.11)


def test_there_and_back_again():
    known, valid = field(), torch.ones(1, 1, 64, 64)
    assert o.round_trip(known, invert(known), valid) < 0.01
    assert o.round_trip(known, known, valid) > 0.5


def test_distances_are_in_pixels():
    a, valid = torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8)
    b = a + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert o.distance(a, b, valid).item() == pytest.approx(5, abs=0.11)
    assert o.distance(a, b, valid, 4.0).item() == pytest.approx(20, abs=0.11)
