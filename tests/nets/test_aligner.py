"""Laws of the siamese pyramid."""

import pytest
import torch
from torch.nn import functional as F

from lamella.nets.aligner import AlignerConfig, correlate, fold_pixels
from lamella.ops.field import warp


def build(**changes):
    torch.manual_seed(0)
    return AlignerConfig(**{"levels": 4, "skip": 1, "kernel": 3, "channels": (8, 8), "features": 4, **changes}).build()


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (65, 33), (17, 90)])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_any_size_and_shape_gives_a_field_of_that_size(size, skip):
    source, target = torch.rand(2, 2, 1, *size)
    assert build(skip=skip)(source, target).shape == (2, 2, *size)


def test_fields_come_from_coarse_to_fine_in_pixels_of_their_level():
    net = build(levels=4, skip=1)
    source, target = (net.encode(torch.rand(1, 1, 50, 37)) for _ in range(2))
    fields = net.align(source, target)
    assert list(fields) == [3, 2, 1]
    assert [tuple(f.shape[-2:]) for f in fields.values()] == [(7, 5), (13, 10), (25, 19)]
    assert list(net.align(source, target, stop_level=2)) == [3, 2]


def test_both_images_see_the_same_encoders():
    net, image = build(), torch.rand(1, 1, 40, 40)
    for a, b in zip(net.encode(image).values(), net.encode(image.clone()).values(), strict=True):
        torch.testing.assert_close(a, b)


def test_without_aligners_the_field_is_zero():
    net = build()
    for parameter in net.aligners.parameters():
        torch.nn.init.zeros_(parameter)
    assert net(torch.rand(1, 1, 40, 40), torch.rand(1, 1, 40, 40)).abs().max() == 0


def test_residuals_are_composed_with_the_field_so_far():
    """An aligner that always answers (1, 0) moves a field by one pixel of its level, at every level."""
    net = build(levels=3, skip=0)
    for aligner in net.aligners.values():
        for parameter in aligner.parameters():
            torch.nn.init.zeros_(parameter)
        with torch.no_grad():
            aligner.layers[-1].bias.copy_(torch.tensor([1.0, 0.0]))
    field = net(torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64))
    torch.testing.assert_close(field[0, 0], torch.full((64, 64), 1 + 2 + 4.0))
    assert field[0, 1].abs().max() == 0


def test_correlation_peaks_at_the_offset():
    target = F.avg_pool2d(torch.randn(1, 6, 30, 30), 3, 1, 1)
    source = torch.roll(target, (2, -1), (-2, -1))
    best = correlate(target, source, 3)[0, :, 8:-8, 8:-8].argmax(0)
    assert (best == (2 + 3) * 7 + (-1 + 3)).all()


def test_correlation_has_the_gradients_of_its_plain_formula():
    a, b = torch.rand(2, 2, 3, 5, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: correlate(x, y, 2), (a, b))


def test_folding_pixels_loses_none():
    image = torch.rand(1, 1, 10, 13)
    folded = fold_pixels(image, 2)
    assert folded.shape == (1, 16, 3, 4)
    torch.testing.assert_close(F.pixel_shuffle(folded, 4)[..., :10, :13], image)


def test_stored_statistics_make_a_part_equal_the_whole():
    net = build(norm="batch", levels=2, skip=1).eval()
    image = torch.rand(1, 1, 96, 96)
    whole = net.encode(image)[1]
    part = net.encode(image[..., 16:80, 16:80])[1]
    torch.testing.assert_close(part[..., 8:-8, 8:-8], whole[..., 16:32, 16:32], atol=1e-5, rtol=1e-4)


def test_context_covers_what_changes_the_field():
    net = build(levels=2, skip=1, correlation=1).eval()
    source, target = torch.rand(2, 1, 1, 128, 128)
    changed = source.clone()
    changed[..., 0:4, 0:4] = 1 - changed[..., 0:4, 0:4]
    difference = (net(source, target) - net(changed, target)).abs()
    assert difference.max() > 0
    assert difference[..., 4 + net.context :, 4 + net.context :].max() < 1e-6


def test_configs_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="leaves none of 3 levels"):
        AlignerConfig(levels=3, skip=3)
    with pytest.raises(ValueError, match="kernel 4 is even"):
        AlignerConfig(kernel=4)


def test_it_learns_a_shift():
    """A net of two levels overfits one pair, and the aligned source is the target."""
    net = build(levels=3, skip=0, correlation=2)
    image = F.avg_pool2d(torch.rand(1, 1, 46, 46), 3, 1)
    source, target = image[..., 2:42, :40], image[..., 4:44, 3:43]
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    wanted = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    for _ in range(60):
        loss = (net(source, target) - wanted)[..., 6:-6, 6:-6].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    left = (warp(source, net(source, target)) - target)[..., 8:-8, 8:-8].abs().mean()
    assert left < 0.3 * (source - target)[..., 8:-8, 8:-8].abs().mean()
