"""Laws of field algebra."""

import numpy as np
import pytest
import torch

from lamella.core.rng import stream
from lamella.ops import field as f


def smooth_image(size, seed=0):
    """A smooth random image, on which interpolation errors are small."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size[0]), torch.linspace(0, 6, size[1]), indexing="ij")
    phase = torch.tensor(stream(seed, "phase").uniform(0, 6, 4), dtype=torch.float32)
    return (2 + torch.sin(y + phase[0]) * torch.cos(x + phase[1]) + torch.sin(0.7 * (x + y) + phase[2]))[None, None]


def field(size=(40, 52), amplitude=2.0, spacing=24.0, seed=0):
    return f.smooth_field(stream(seed, "field"), size, amplitude, spacing)


def inner(x, margin=8):
    return x[..., margin:-margin, margin:-margin]


def test_zero_field_changes_nothing():
    image = torch.rand(2, 3, 17, 9)
    torch.testing.assert_close(f.warp(image, torch.zeros(2, 2, 17, 9)), image, atol=1e-5, rtol=0)


def test_a_field_tells_each_output_pixel_where_to_look():
    image = torch.zeros(1, 1, 10, 12)
    image[0, 0, 6, 3] = 1.0
    moved = f.warp(image, torch.tensor([2.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 10, 12))
    assert moved[0, 0, 4, 7] == pytest.approx(1.0, abs=1e-5)
    assert moved.sum() == pytest.approx(1.0, abs=1e-4)


def test_outside_is_missing():
    moved = f.warp(torch.ones(1, 1, 6, 6), torch.full((1, 2, 6, 6), 3.0))
    assert moved[..., :3, :3].min() == pytest.approx(1.0, abs=1e-5)
    assert moved[..., 3:, :].abs().max() < 1e-5


def test_warping_by_a_composed_field_is_warping_twice():
    image, a, b = smooth_image((40, 52)), field(seed=1), field(seed=2)
    twice = f.warp(f.warp(image, a, padding="border"), b, padding="border")
    once = f.warp(image, f.compose(a, b), padding="border")
    assert (inner(twice) - inner(once)).abs().max() < 0.01


def test_composition_is_associative():
    a, b, c = (field(seed=s) for s in (1, 2, 3))
    left, right = f.compose(f.compose(a, b), c), f.compose(a, f.compose(b, c))
    assert (inner(left) - inner(right)).abs().max() < 0.05


@pytest.mark.parametrize("order", ["field first", "inverse first"])
def test_a_field_and_its_inverse_cancel(order):
    a = field(amplitude=4.0, spacing=32.0)
    g = f.invert(a)
    rest = f.compose(a, g) if order == "field first" else f.compose(g, a)
    assert inner(rest, 10).abs().max() < 0.05


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (17, 18)])
def test_finer_undoes_coarser_for_linear_fields(size):
    y, x = f.identity_grid(*size, like=torch.zeros(1))[0]
    linear = torch.stack([0.1 * y - 0.05 * x + 1, 0.02 * y + 0.03 * x - 2])[None]
    back = f.finer(f.coarser(linear), size)
    assert (inner(back, 4) - inner(linear, 4)).abs().max() < 1e-4


def test_finer_and_halve_agree_on_where_pixels_are():
    image, moves = smooth_image((64, 64)), field((32, 32), amplitude=1.5, spacing=16.0)
    coarse = f.warp(f.halve(image), moves, padding="border")
    fine = f.halve(f.warp(image, f.finer(moves, (64, 64)), padding="border"))
    assert (inner(coarse, 4) - inner(fine, 4)).abs().max() < 0.02


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(37, 50), (64, 64)])
def test_rescale_keeps_a_translation(levels, size):
    small = tuple(-(-n // 2**levels) for n in size)
    shift = torch.tensor([1.25, -0.5]).view(1, 2, 1, 1)
    up = f.rescale(shift.expand(1, 2, *small), levels, size)
    assert up.shape == (1, 2, *size)
    torch.testing.assert_close(up, (shift * 2**levels).expand_as(up))
    down = f.rescale(up, -levels, small)
    torch.testing.assert_close(down, shift.expand_as(down))


@pytest.mark.parametrize("factors", [(2, 2), (8, 8), (1, 4), (3, 6), (1, 1)])
def test_refined_keeps_linear_fields_and_is_for_a_part_what_it_is_for_the_whole(factors):
    y, x = f.identity_grid(24, 31, like=torch.zeros(1))[0]
    linear = torch.stack([0.1 * y - 0.05 * x + 1, 0.02 * y + 0.03 * x - 2])[None]
    fy, fx = factors
    rows, columns = (torch.arange(24 * fy) + 0.5) / fy - 0.5, (torch.arange(31 * fx) + 0.5) / fx - 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    expected = torch.stack([fy * (0.1 * y - 0.05 * x + 1), fx * (0.02 * y + 0.03 * x - 2)])[None]
    found = f.refined(linear, factors)
    assert (inner(found, 2 * max(factors)) - inner(expected, 2 * max(factors))).abs().max() < 1e-4
    rough = torch.randn(1, 2, 24, 31)
    whole, part = f.refined(rough, factors), f.refined(rough[..., 5:19, 7:20], factors)
    margin = np.s_[..., 2 * fy : -2 * fy, 2 * fx : -2 * fx]
    assert torch.equal(part[margin], whole[..., 5 * fy : 19 * fy, 7 * fx : 20 * fx][margin])


def test_rotating_images_rotates_their_field():
    image, a = smooth_image((40, 52)), field()
    turned = f.warp(image.flip((-2, -1)), f.rotate180(a), padding="border")
    torch.testing.assert_close(turned, f.warp(image, a, padding="border").flip((-2, -1)), atol=1e-4, rtol=0)


def test_folds_are_where_neighbours_swap():
    assert f.fold_fraction(torch.zeros(1, 2, 8, 8)).item() == 0
    crossing = torch.zeros(1, 2, 8, 9)
    crossing[:, 1] = -1.5 * torch.arange(9.0)
    assert f.fold_fraction(crossing).item() == 1
    growing = torch.zeros(1, 2, 8, 8)
    growing[:, 0] = torch.arange(8.0)[:, None]
    torch.testing.assert_close(f.jacobian_determinant(growing), torch.full((1, 8, 8), 2.0))


def test_smooth_fields_have_their_amplitude_and_do_not_fold():
    for seed in range(5):
        a = field((60, 80), amplitude=6.0, spacing=32.0, seed=seed)
        assert a.abs().max() == pytest.approx(6, rel=1e-4)
        assert f.jacobian_determinant(a).min() > 0
    assert not np.allclose(field(seed=1), field(seed=2))
    torch.testing.assert_close(field(seed=3), field(seed=3))
