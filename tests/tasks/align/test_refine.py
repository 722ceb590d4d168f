"""Steps on the images find what is left of a displacement, to a tenth of a pixel, and nothing where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.ops.field import coarser, rescale, smooth_field, warp
from lamella.tasks.align.refine import reach, refine
from lamella.tasks.align.refine_settings import RefineSettings
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.tiles import Tiling
from tests.tasks.align.nets import constant, estimator

STEPS = RefineSettings(steps=4)
INNER = np.s_[..., 32:-32, 32:-32]


def tissue(size: tuple[int, int], name: str = "tissue") -> torch.Tensor:
    """Texture with grains of a few pixels, in (0, 1]."""
    noise = torch.from_numpy(stream(0, name).standard_normal((1, 1, *size)).astype(np.float32))
    noise = F.avg_pool2d(F.avg_pool2d(noise, 3, 1, 1), 3, 1, 1)
    return (0.5 + noise / noise.abs().max() / 2.1).clamp(0.01, 1)


def displaced(size: tuple[int, int], amplitude: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source, target and the field between them."""
    field = smooth_field(stream(0, "field"), size, amplitude, 96.0)
    source = tissue(size)
    return source, warp(source, field, padding="border"), field


def lengths(field: torch.Tensor) -> torch.Tensor:
    return field.square().sum(1).sqrt()


@pytest.mark.parametrize("amplitude", [0.5, 2.0])
def test_small_smooth_displacements_are_found_from_a_zero_field(amplitude):
    source, target, field = displaced((224, 240), amplitude)
    found = refine(torch.zeros(1, 2, 56, 60), source, target, 2, STEPS)
    error = lengths(rescale(found, 2, (224, 240)) - field)[INNER]
    assert error.median() < 0.03
    assert error.quantile(0.95) < 0.1
    assert lengths(field)[INNER].median() > 0.2


@pytest.mark.parametrize(("levels", "size"), [(0, (122, 131)), (1, (122, 131)), (3, (122, 131))])
def test_fields_of_any_grid_and_size_are_refined(levels, size):
    source, target, field = displaced(size, 1.0)
    start = torch.zeros(1, 2, *(-(-n // 2**levels) for n in size))
    found = refine(start, source, target, levels, STEPS)
    assert found.shape == start.shape
    assert lengths(rescale(found, levels, size) - field)[INNER].median() < 0.05


def test_gain_and_shade_of_an_image_change_nothing():
    source, target, _ = displaced((160, 160), 1.0)
    shade = torch.linspace(0.1, 0.3, 160)
    start = torch.zeros(1, 2, 40, 40)
    plain, shaded = (refine(start, source, image, 2, STEPS) for image in (target, 0.6 * target + shade))
    assert lengths(plain - shaded).max() * 4 < 0.1


def test_a_true_field_stays_as_it_is():
    source, target, field = displaced((192, 192), 8.0)
    true = coarser(coarser(field))
    assert lengths(refine(true, source, target, 2, STEPS) - true)[..., 8:-8, 8:-8].max() * 4 < 0.05


def test_unrelated_images_move_nothing():
    found = refine(torch.zeros(1, 2, 64, 64), tissue((256, 256)), tissue((256, 256), "other"), 2, STEPS)
    assert lengths(found).max() * 4 < 0.1
    assert (found == 0).float().mean() > 0.8


def test_what_a_net_invents_between_unrelated_images_is_calmed_and_what_it_finds_is_not():
    source, target, field = displaced((256, 256), 3.0)
    invented = smooth_field(stream(0, "invented"), (64, 64), 0.5, 6.0)
    calm = refine(invented, source, tissue((256, 256), "other"), 2, RefineSettings(steps=1))
    assert lengths(calm).mean() < 0.4 * lengths(invented).mean()
    drift = torch.full_like(invented, 0.7)
    assert torch.allclose(refine(drift, source, tissue((256, 256), "other"), 2, STEPS), drift, atol=0.03)
    off = coarser(coarser(field)) + invented / 4
    kept, left = (refine(off, source, target, 2, RefineSettings(steps=1, calm=c)) for c in (40.0, 0.0))
    assert torch.equal(kept, left)


def test_nothing_moves_where_there_is_no_data_and_what_is_missing_moves_nothing():
    source, target, field = displaced((192, 256), 2.0)
    lost = target.clone()
    lost[..., 128:] = 0
    start = torch.zeros(1, 2, 48, 64)
    fine = refine(start, source, lost, 2, RefineSettings(steps=4, broad=0))
    assert fine[..., 48:].abs().max() < 1e-3  # 64 px into what is missing; windows of broad steps reach further
    found = refine(start, source, lost, 2, STEPS)
    error = lengths(rescale(found, 2, (192, 256)) - field)
    assert error[..., 32:-32, 32:120].quantile(0.95) < 0.15
    assert torch.equal(refine(start, torch.zeros_like(source), target, 2, STEPS), start)


def test_sides_of_what_is_torn_do_not_pull_at_each_other():
    source = tissue((128, 256))
    jump = torch.zeros(1, 2, 128, 256)
    jump[:, 1, :, :128], jump[:, 1, :, 128:] = -0.9, 0.9
    target = warp(source, jump, padding="border")
    torn = torch.zeros(1, 1, 32, 64)
    torn[..., 31:33] = 1
    start = torch.zeros(1, 2, 32, 64)
    apart, across = (refine(start, source, target, 2, STEPS, torn=t)[0, 1, 8:-8] * 4 for t in (torn, None))
    assert (apart[:, 28:31] + 0.9).abs().max() < 0.15
    assert (apart[:, 33:36] - 0.9).abs().max() < 0.15
    assert (across[:, 28:36].abs() - 0.9).abs().max() > 0.4


def test_vectors_leap_across_a_crack_that_nobody_marked():
    size = (160, 320)
    jump = torch.zeros(1, 2, *size)
    jump[:, 1, :, :160], jump[:, 1, :, 160:] = -5, 5
    source = tissue(size)
    target = warp(source, jump, padding="border")
    ramp = torch.zeros(1, 2, 40, 80)
    ramp[:, 1] = (torch.arange(80.0) / 4 - 9.875).clamp(-1.25, 1.25)
    missed = [
        (refine(ramp, source, target, 2, RefineSettings(steps=2, leaps=n))[0, 1, 10:-10, 16:-16] * 4).abs() < 4.5
        for n in (0, 4)
    ]
    assert missed[0].float().mean() > 0.1
    assert missed[1].float().mean() < 0.06
    other = refine(ramp, source, tissue(size, "other"), 2, RefineSettings(steps=1, leaps=2))
    assert torch.equal(other, refine(ramp, source, tissue(size, "other"), 2, RefineSettings(steps=3)))


@pytest.mark.parametrize("settings", [STEPS, RefineSettings(steps=2, leaps=1)])
def test_blended_tiles_agree_with_the_whole(settings):
    source, target, _ = displaced((256, 448), 2.0)
    tiling = Tiling((64, 112), 40, 24)
    margin = 4 * reach(settings)
    around = F.pad(source, (margin,) * 4)
    whole = refine(torch.zeros(1, 2, 64, 112), around, target, 2, settings, margin=margin)[0].numpy()
    tiles = []
    for i in range(len(tiling)):
        box = tiling.tile(i)
        (y, x), (b, r) = ((4 * n for n in corner) for corner in (box.start, box.stop))
        seen = around[..., y : b + 2 * margin, x : r + 2 * margin]
        start = torch.zeros(1, 2, *box.shape)
        tiles.append(refine(start, seen, target[..., y:b, x:r], 2, settings, margin=margin)[0].numpy())
    blended = tiling.blend(Box.of((64, 112)), lambda i: tiles[i])
    assert np.abs(blended - whole).max() * 4 < 0.005
    assert len(tiles) > 4


def test_an_estimator_ends_with_the_steps_asked_for_and_repeats_them_exactly():
    size = (128, 136)
    texture = (tissue((160, 160))[0, 0].numpy() * 255).astype(np.uint8)
    source, target = texture[16:144, 16:152], texture[18:146, 15:151]
    with_steps = estimator(constant(2.4, -0.5), refine=RefineSettings(steps=4))
    found = with_steps.pair(source, target)
    expected = np.reshape((2, -1), (2, 1, 1))
    assert np.abs(found - expected)[:, 32:-32, 32:-32].max() < 0.05
    assert found.tobytes() == with_steps.pair(source, target).tobytes()
    without = estimator(constant(2.4, -0.5)).pair(source, target)
    np.testing.assert_allclose(without, np.broadcast_to(np.reshape((2.4, -0.5), (2, 1, 1)), (2, *size)), atol=1e-6)


def test_least_must_be_below_sure():
    with pytest.raises(UserError, match=r"least 0\.6 must be below sure 0\.2"):
        AlignSettings.load({"refine": {"steps": 2, "least": 0.6}})


def test_leaps_need_steps():
    with pytest.raises(UserError, match="leaps 2 happen between steps"):
        AlignSettings.load({"refine": {"steps": 0, "leaps": 2}})
