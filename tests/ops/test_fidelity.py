"""Fidelity agrees with torchmetrics and scikit-image, and what weighs nothing has no influence."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional import pearson_corrcoef, r2_score
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lamella.ops import fidelity

FLAT, DEEP = (40, 36), (14, 16, 18)


def pair(space, channels=2, batch=3, seed=0):
    chance = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, channels, *space, generator=chance)
    return (target + 0.3 * torch.rand(target.shape, generator=chance)).clamp(0, 1), target


def ones(target):
    return torch.ones_like(target)


@pytest.mark.parametrize(
    ("window", "theirs"),
    [("uniform", {}), ("gaussian", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False})],
)
@pytest.mark.parametrize("space", [FLAT, DEEP], ids=["2D", "3D"])
def test_ssim_is_that_of_scikit_image(space, window, theirs):
    prediction, target = pair(space)
    ours = fidelity.ssim(prediction, target, ones(target), window=window)
    for b in range(3):
        for c in range(2):
            expected = structural_similarity(prediction[b, c].numpy(), target[b, c].numpy(), data_range=1.0, **theirs)
            assert ours[b, c].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("space", "scales"), [((180, 184), 5), ((48, 52), 2)])
def test_ms_ssim_is_that_of_torchmetrics(space, scales):
    prediction, target = pair(space, channels=1, batch=2)
    prediction = 0.8 * target + 0.1 * prediction
    powers = fidelity.SCALES[:scales]
    ours = fidelity.ms_ssim(prediction, target, ones(target), scales=powers)
    theirs = multiscale_structural_similarity_index_measure(
        prediction, target, data_range=1.0, betas=powers, reduction="none", normalize="relu"
    )
    torch.testing.assert_close(ours[:, 0], theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("space", [FLAT, DEEP], ids=["2D", "3D"])
def test_pearson_and_r2_are_those_of_torchmetrics(space):
    prediction, target = pair(space)
    r, r2 = (measure(prediction, target, ones(target)) for measure in (fidelity.pearson, fidelity.r_squared))
    for b in range(3):
        for c in range(2):
            a, t = prediction[b, c].flatten(), target[b, c].flatten()
            assert r[b, c].item() == pytest.approx(pearson_corrcoef(a, t).item(), abs=1e-4)
            assert r2[b, c].item() == pytest.approx(r2_score(a, t).item(), abs=1e-4)


def test_identical_images_are_alike_in_all_ways():
    _, target = pair((48, 48))
    for measure in (fidelity.ssim, fidelity.pearson, fidelity.r_squared):
        torch.testing.assert_close(measure(target, target, ones(target)), torch.ones(3, 2))
    solid = (target > 0.5).float()
    torch.testing.assert_close(fidelity.dice(solid, solid, ones(target)), torch.ones(3, 2))


def test_means_divide_by_the_mask_of_each_sample():
    """Two samples whose masks differ in area count alike; a mean over all voxels, or over the batch, would not give this."""
    values = torch.tensor([[[[1.0, 1.0, 5.0, 5.0]]], [[[3.0, 9.0, 9.0, 9.0]]]])
    mask = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]], [[[1.0, 0.0, 0.0, 0.0]]]])
    torch.testing.assert_close(fidelity.weighted(values, mask), torch.tensor([[1.0], [3.0]]))
    assert fidelity.mean(values, mask) == 2.0
    mask[1] = 0
    assert fidelity.mean(values, mask) == 1.0
    assert fidelity.mean(values, 0 * mask) == 0.0


@pytest.mark.parametrize("space", [FLAT, DEEP], ids=["2D", "3D"])
def test_a_mask_of_one_channel_serves_all_and_mixes_no_samples(space):
    """Each sample by itself is what it is in the batch, with a mask (b, 1, ...) for images (b, c, ...)."""
    prediction, target = pair(space)
    mask = (pair(space, channels=1, seed=1)[1] > 0.4).float()
    for measure in (fidelity.ssim, fidelity.pearson, fidelity.r_squared, fidelity.dice):
        together = measure(prediction, target, mask)
        assert together.shape == (3, 2)
        for b in range(3):
            for c in range(2):
                alone = measure(prediction[b : b + 1, c : c + 1], target[b : b + 1, c : c + 1], mask[b : b + 1])
                torch.testing.assert_close(together[b, c], alone[0, 0])


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_what_is_predicted_where_nothing_counts_has_no_influence(window):
    prediction, target = pair((40, 40))
    mask = torch.zeros(3, 1, 40, 40)
    mask[:, :, 8:30, 5:33] = 1
    other = torch.where(mask > 0, prediction, 1 - prediction)
    for measure in (fidelity.pearson, fidelity.r_squared, fidelity.dice):
        torch.testing.assert_close(measure(prediction, target, mask), measure(other, target, mask))
    scales = fidelity.SCALES[:1]
    for settings in ({}, {"scales": scales}):
        measure = fidelity.ms_ssim if settings else fidelity.ssim
        found = [measure(p, target, mask, window=window, **settings) for p in (prediction, other)]
        torch.testing.assert_close(*found)


def test_masked_ssim_is_the_mean_of_scikit_images_map_over_the_mask():
    prediction, target = pair((40, 40), channels=1, batch=1)
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:25, 12:30] = 1
    prediction = torch.where(mask > 0, prediction, target)
    _, whole = structural_similarity(prediction[0, 0].numpy(), target[0, 0].numpy(), data_range=1.0, full=True)
    ours = fidelity.ssim(prediction, target, mask, window="uniform")
    assert ours.item() == pytest.approx(whole[10:25, 12:30].mean(), abs=1e-4)


def test_weights_weigh():
    values = torch.tensor([[[[2.0, 8.0]]]])
    assert fidelity.mean(values, torch.tensor([[[[3.0, 1.0]]]])) == pytest.approx(3.5)


def test_flat_windows_look_at_slices_one_by_one():
    prediction, target = pair((3, 40, 40), batch=1)
    deep = fidelity.ssim(prediction, target, ones(target), size=(1, 11, 11))
    slices = [fidelity.ssim(prediction[:, :, z], target[:, :, z], torch.ones(1, 2, 40, 40)) for z in range(3)]
    torch.testing.assert_close(deep, torch.stack(slices).mean(0))


def test_gradients_are_finite_where_images_are_flat():
    target = torch.zeros(1, 1, 24, 24)
    prediction = torch.zeros(1, 1, 24, 24, requires_grad=True)
    for measure in (fidelity.ssim, fidelity.pearson, fidelity.dice):
        (gradient,) = torch.autograd.grad(measure(prediction, target, ones(target)).sum(), prediction)
        assert np.isfinite(gradient.numpy()).all()


def test_mixed_precision_leaves_the_moments_alone():
    _, target = pair((48, 48))
    prediction = 0.98 * target + 0.01
    plain = [measure(prediction, target, ones(target)) for measure in (fidelity.ssim, fidelity.pearson)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [measure(prediction, target, ones(target)) for measure in (fidelity.ssim, fidelity.pearson)]
    torch.testing.assert_close(mixed, plain, rtol=0, atol=1e-5)


def test_images_far_from_zero_have_no_variance_below_zero():
    flat = torch.full((1, 1, 24, 24), 1234.5)
    noisy = flat + 1e-3 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(0))
    for window in ("gaussian", "uniform"):
        found = fidelity.ssim(noisy, flat, ones(flat), window=window)
        assert 0.9 < found.item() <= 1.0001
