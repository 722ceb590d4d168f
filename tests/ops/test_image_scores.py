"""Figures of images agree with other libraries, blocks with the whole, and masks with pictures that are cut out."""

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from lamella.blockwise import cover
from lamella.core.box import Box
from lamella.ops.image_metrics import PLANE_AXIS
from lamella.ops.image_scores import Comparison, Sums, axes_of, margin_of, sums_of
from lamella.ops.image_ssim import SCALE_WEIGHTS, Patch

ALL = ("mae", "mse", "r2", "pearson", "ssim", "ms_ssim", "psnr", "dice", "accuracy")


def stacks(shape, seed=0, offset=0.0):
    """A truth with structure of all sizes, and a prediction of it."""
    rng = np.random.default_rng(seed)
    true = rng.random(shape)
    for axis in range(3):
        true = true + np.sin(np.arange(shape[axis]) / 7).reshape([-1 if a == axis else 1 for a in range(3)])
    return true * 0.7 + rng.normal(0, 0.3, shape) + offset, true + offset


def whole(p, t, orientation="xy", weights=None, **how):
    box = Box.of(p.shape)
    chosen = Comparison(**{"metrics": ALL, "data_range": 4.0, **how})
    return sums_of(Patch(p, t, box, box, box), orientation, chosen, weights).figures(chosen)


@pytest.mark.parametrize("window", [7, 21])
def test_planes_agree_with_scikit_image(window):
    p, t = stacks((3, 60, 70))
    found = whole(p, t, window=window)
    for z in range(3):
        ssim = structural_similarity(t[z], p[z], win_size=window, data_range=4.0)
        assert found["ssim"][z] == pytest.approx(ssim, abs=1e-6)
        assert found["mse"][z] == pytest.approx(mean_squared_error(t[z], p[z]), abs=1e-6)
        assert found["psnr"][z] == pytest.approx(peak_signal_noise_ratio(t[z], p[z], data_range=4.0), abs=1e-6)
        assert found["pearson"][z] == pytest.approx(np.corrcoef(p[z].ravel(), t[z].ravel())[0, 1], abs=1e-12)
        assert found["r2"][z] == pytest.approx(1 - ((p[z] - t[z]) ** 2).sum() / ((t[z] - t[z].mean()) ** 2).sum())
        assert found["mae"][z] == pytest.approx(np.abs(p[z] - t[z]).mean())
        assert np.isnan(found["ms_ssim"][z])  # smaller than five scales need


@pytest.mark.parametrize("orientation", ["xz", "yz", "xyz"])
def test_other_orientations_are_the_planes_and_the_volume_of_scikit_image(orientation):
    p, t = stacks((12, 16, 18))
    found = whole(p, t, orientation)["ssim"]
    axis = PLANE_AXIS[orientation]
    pairs = [(p, t)] if axis is None else list(zip(np.moveaxis(p, axis, 0), np.moveaxis(t, axis, 0), strict=True))
    assert found == pytest.approx([structural_similarity(b, a, data_range=4.0) for a, b in pairs], abs=1e-6)


def test_ms_ssim_is_made_of_what_torchmetrics_and_scikit_image_find_on_each_scale():
    """torchmetrics alone differs by 1e-4: it counts what it mirrors at the edges of the coarsest scale, and of no other."""
    p, t = stacks((1, 190, 203))
    a, b = (torch.from_numpy(x)[:, None] for x in (p, t))
    wanted = 1.0
    for level, weight in enumerate(SCALE_WEIGHTS):
        _, structure = structural_similarity_index_measure(a, b, data_range=4.0, return_contrast_sensitivity=True)
        value = float(structure)
        if level == len(SCALE_WEIGHTS) - 1:
            images = (x[0, 0].numpy() for x in (b, a))
            value = structural_similarity(*images, data_range=4.0, gaussian_weights=True, use_sample_covariance=False)
        wanted *= value**weight
        a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
    assert whole(p, t)["ms_ssim"][0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("orientation", ["xy", "xz", "yz", "xyz"])
@pytest.mark.parametrize("offset", [0.0, 600.0])
def test_blocks_give_what_the_whole_gives(orientation, offset):
    p, t = stacks((20, 40, 50), offset=offset)
    masked = (np.random.default_rng(1).random(p.shape) < 0.6).astype(np.uint8)
    assert_blocks_equal_whole(p, t, orientation, masked, size=(16, 16, 32))


def test_blocks_of_large_planes_give_the_ms_ssim_of_the_whole():
    p, t = stacks((1, 200, 197))
    masked = np.random.default_rng(1).random(p.shape) < 0.6
    assert_blocks_equal_whole(p, t, "xy", masked, size=(1, 64, 96))


def assert_blocks_equal_whole(p, t, orientation, masked, size):
    box, how = Box.of(p.shape), Comparison(ALL, data_range=4.0)
    plane = PLANE_AXIS[orientation]
    for weights in (None, masked):
        total = Sums.zeros(1 if plane is None else p.shape[plane])
        for block in cover(box, size, margin_of([orientation], how, p.shape), bounds=box):
            here = block.read.slices()
            patch = Patch(p[here], t[here], block.read, block.write, box)
            part = sums_of(patch, orientation, how, None if weights is None else weights[here])
            total = total.added(0 if plane is None else block.write.start[plane], part)
        assert total["count"].sum() == (p.size if weights is None else masked.sum())
        wanted = whole(p, t, orientation, weights)
        for name, values in total.figures(how).items():
            np.testing.assert_allclose(values, wanted[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_mask_leaves_what_it_covers():
    p, t = stacks((1, 40, 40))
    mask = np.zeros(p.shape)
    mask[:, :20] = 1
    found, cut = whole(p, t, weights=mask), whole(p[:, :20], t[:, :20])
    for name in ("mae", "mse", "r2", "pearson", "psnr", "dice", "accuracy"):
        np.testing.assert_allclose(found[name], cut[name])
    full = structural_similarity(t[0], p[0], data_range=4.0, full=True)[1]
    assert found["ssim"][0] == pytest.approx(full[3:20, 3:-3].mean(), abs=1e-6)


def test_dice_and_accuracy_by_hand():
    p, t = np.zeros((1, 2, 4)), np.zeros((1, 2, 4))
    p[0, 0, :3], t[0, 0, 1:] = 1, 1  # two of three overlap
    found = whole(p, t)
    assert found["dice"][0] == pytest.approx(2 * 2 / 6)
    assert found["accuracy"][0] == pytest.approx(6 / 8)
    assert whole(p * 0, t * 0)["dice"][0] == 1  # nothing there, nothing found


def test_images_without_contrast():
    p, t = stacks((1, 9, 9))
    flat = np.full_like(t, 3.0)
    assert np.isnan(whole(p, flat)["pearson"][0])
    assert np.isnan(whole(p, flat)["r2"][0])
    assert whole(flat, t)["pearson"][0] == 0
    assert whole(t, t)["psnr"][0] == np.inf


def test_a_plane_smaller_than_the_window_has_no_ssim():
    found = whole(*stacks((4, 20, 20)), "xz")
    assert np.isnan(found["ssim"]).all()
    assert np.isfinite(found["pearson"]).all()


def test_axes_of_orientations():
    assert [axes_of(o) for o in ("xy", "xz", "yz", "xyz")] == [(1, 2), (0, 2), (0, 1), (0, 1, 2)]
