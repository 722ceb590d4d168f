"""Laws of the similarity and smoothness penalties, and answers worked out by hand."""

from math import pi
from typing import get_args

import pytest
import torch

from lamella.ops import similarity as sim
from lamella.ops import smoothness as smo
from lamella.ops.field import identity_grid

SIMILARITIES = [member() for member in get_args(get_args(sim.Similarity)[0])]
SMOOTHNESSES = [member() for member in get_args(get_args(smo.Smoothness)[0])]
by_kind = pytest.mark.parametrize("penalty", SIMILARITIES, ids=lambda p: p.kind)
each_smoothness = pytest.mark.parametrize("penalty", SMOOTHNESSES, ids=lambda p: p.kind)


def images(seed=0, size=(24, 30)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *size, generator=generator), torch.ones(2, 1, *size)


def linear(a, b, c, d, size=(16, 20)):
    y, x = identity_grid(*size, like=torch.zeros(1))[0]
    return torch.stack([a * y + b * x, c * y + d * x])[None]


@by_kind
def test_an_image_is_like_itself(penalty):
    a, valid = images()
    assert penalty(a, a, valid).abs().max() < 0.02  # ncc counts a little variance as flat
    b, _ = images(1)
    assert penalty(a, b, valid).mean() > 0.1 * penalty(a, 1 - a, valid).mean()


@by_kind
def test_similarity_is_symmetric(penalty):
    (a, valid), (b, _) = images(), images(1)
    torch.testing.assert_close(penalty(a, b, valid), penalty(b, a, valid))


def test_mean_square_by_hand():
    a, valid = images()
    torch.testing.assert_close(sim.MeanSquare()(a, a + 0.5, valid), torch.full_like(a, 0.25))


def test_local_correlation_is_blind_to_brightness_and_contrast():
    a, valid = images()
    assert sim.LocalCorrelation()(a, 0.3 * a + 0.2, valid).max() < 0.05
    assert sim.LocalCorrelation()(a, 1 - a, valid).min() > 1.9


def test_one_map_of_an_encoding_correlates_as_an_image_does():
    (a, valid), (b, _) = images(), images(1)
    of_maps = sim.EncodingCorrelation(window=9, floor=1e-4)
    torch.testing.assert_close(of_maps(a, b, valid), sim.LocalCorrelation(window=9, floor=1e-4)(a, b, valid))


def test_maps_of_an_encoding_count_by_how_much_they_vary():
    (a, valid), (b, _) = images(), images(1)
    penalty = sim.EncodingCorrelation(floor=1e-6)
    loud_alike = penalty(torch.cat([10 * a, a], 1), torch.cat([10 * a, b], 1), valid)
    loud_unlike = penalty(torch.cat([a, 10 * a], 1), torch.cat([a, 10 * b], 1), valid)
    assert loud_alike.max() < 0.05
    assert loud_unlike.mean() > 0.5


@pytest.mark.parametrize(
    "penalty",
    [sim.LocalCorrelation(), sim.StructuralSimilarity(), sim.EncodingCorrelation()],
    ids=lambda p: p.kind,
)
def test_invalid_pixels_do_not_leak_into_their_neighbours(penalty):
    (a, valid), (b, _) = images(), images(1)
    valid[..., 10:14, 10:14] = 0
    spoilt = torch.where(valid > 0, b, 7.0)
    difference = (penalty(a, b, valid) - penalty(a, spoilt, valid)).abs() * valid
    assert difference.max() < 1e-4


def test_weighted_means_do_not_depend_on_the_scale_of_the_weights():
    a, valid = images()
    torch.testing.assert_close(sim.weighted_mean(a, valid), sim.weighted_mean(a, 7 * valid))
    assert sim.weighted_mean(a, 0 * valid) == 0


@each_smoothness
def test_translations_cost_nothing(penalty):
    assert penalty(torch.full((1, 2, 16, 20), 3.5)).max() < 1e-5


@each_smoothness
def test_rough_fields_cost_more_than_smooth_ones(penalty):
    smooth, rough = linear(0.05, 0, 0, 0.02), linear(0.05, 0, 0, 0.02) + torch.randn(1, 2, 16, 20)
    assert penalty(rough).mean() > penalty(smooth).mean()


@each_smoothness
def test_the_mean_does_not_depend_on_the_size_of_the_image(penalty):
    small = penalty(linear(0.1, 0.2, 0, 0.1, (16, 20)))[..., 2:-2, 2:-2].mean()
    large = penalty(linear(0.1, 0.2, 0, 0.1, (64, 48)))[..., 2:-2, 2:-2].mean()
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-3)


def test_penalties_of_a_linear_field_by_hand():
    field = linear(0.1, 0.0, 0.0, -0.3)  # central differences of two pixels: 0.2 along y, -0.6 along x
    at = (0, 0, 8, 10)
    assert smo.Jacobian()(field)[at].item() == pytest.approx(0.2**2 + 0.6**2, rel=1e-4)
    assert smo.TotalVariation()(field)[at].item() == pytest.approx(0.8, rel=1e-4)
    assert smo.Laplacian()(field)[at].item() == pytest.approx(0.0, abs=1e-8)
    assert smo.CentredJacobian()(field)[at].item() == pytest.approx(0.0, abs=1e-8)


def test_a_laplacian_spike_by_hand():
    field = torch.zeros(1, 2, 9, 9)
    field[0, 0, 4, 4] = 2.0
    penalty = smo.Laplacian()(field)[0, 0]
    assert penalty[4, 4].item() == pytest.approx(4.0)
    assert penalty[4, 5].item() == pytest.approx(0.25)


def test_rotations_cost_no_rigidity():
    angle = pi / 6
    rotation = linear(torch.cos(torch.tensor(angle)) - 1, -0.5, 0.5, torch.cos(torch.tensor(angle)) - 1)
    assert smo.Rigidity()(rotation).max() < 1e-6
    assert smo.Jacobian()(rotation).max() > 0.1


def test_rigidity_of_a_stretch_by_hand():
    stretched = linear(0.5, 0, 0, 0)  # springs along y lengthen from 1 to 1.5, diagonals from √2 to √(1.5² + 1)
    diagonal = (1.5**2 + 1) ** 0.5 - 2**0.5
    want = (2 * 0.5**2 + 4 * diagonal**2) / 8
    assert smo.Rigidity()(stretched)[0, 0, 8, 8].item() == pytest.approx(want, rel=1e-4)
