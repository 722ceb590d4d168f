"""Smoothed intensities beside a U-Net's outputs: what they are, and that blocks equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lamella.nets.beside import UNetBeside, build_beside, check_deviations, smooth
from lamella.nets.unet import UNet, UNetConfig

FLAT = UNetConfig(features=(4, 6), down=(2,), edges="replicate")
DEEP = UNetConfig(ndim=3, features=(4, 6), down=((1, 2, 2),), edges="replicate")
VALID = UNetConfig(features=(4, 6), down=(2,), padding="valid", norm="none")


def built(config: UNetConfig, beside: tuple[float | tuple[float, ...], ...]) -> UNetBeside:
    torch.manual_seed(0)
    net = build_beside(config, 1, 3, beside)
    assert isinstance(net, UNetBeside)
    return net.eval()


@pytest.mark.parametrize("deviations", [(2.0, 2.0), (0.0, 1.5), (1.0, 0.0, 2.0)], ids=str)
def test_smoothing_is_that_of_scipy(deviations: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, *(17 + k for k in range(len(deviations))))).astype(np.float32)
    expected = gaussian_filter(
        image, (0, 0, *deviations), mode="nearest", radius=[0, 0, *(int(np.ceil(3 * d)) for d in deviations)]
    )
    np.testing.assert_allclose(smooth(torch.from_numpy(image), deviations).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("config", [FLAT, DEEP], ids=["2D", "3D"])
@torch.no_grad()
def test_the_net_comes_first_and_intensities_follow(config: UNetConfig) -> None:
    net = built(config, (0.0, 2.0))
    image = torch.randn(2, 1, *((6, 24, 24)[-config.ndim :]))
    found = net(image)
    assert found.shape[1] == net.out_channels == 3 + 2
    torch.testing.assert_close(found[:, 3:4], image)
    torch.testing.assert_close(found[:, 4:], smooth(image, (2.0,) * config.ndim))
    torch.testing.assert_close(found[:, :3], UNet.forward(net, image))


@pytest.mark.parametrize("config", [FLAT, VALID], ids=["same", "valid"])
@torch.no_grad()
def test_blocks_with_the_context_equal_the_whole(config: UNetConfig) -> None:
    net = built(config, (5.0,))
    image = torch.randn(1, 1, 96, 96)
    whole, margin = net(image), net.margin[0]
    reach = max(-(-net.context[0] // 2) * 2, 2)
    part = net(image[..., 24 - reach : 40 + reach, 24 - reach : 40 + reach])
    kept = reach - margin
    assert net.context[0] == 15  # three deviations, more than the U-Net sees
    found = part[..., kept : kept + 16, kept : kept + 16]
    torch.testing.assert_close(found, whole[..., 24 - margin : 40 - margin, 24 - margin : 40 - margin])


def test_the_context_is_exact() -> None:
    net, place = built(FLAT, (4.0,)), 40
    image = torch.zeros(1, 1, 80, 80)
    with torch.no_grad():
        before = net(image)[..., place, place]
        for distance, changes in ((net.context[0], True), (net.context[0] + 1, False)):
            image.zero_()[..., place, place + distance] = 1e4
            assert bool((net(image)[..., place, place] != before).any()) == changes


def test_without_deviations_it_is_the_u_net() -> None:
    assert type(build_beside(FLAT, 1, 3, ())) is UNet


@pytest.mark.parametrize(("beside", "told"), [((-1.0,), "0 or more"), (((1.0, 2.0, 3.0),), "has 3 numbers")])
def test_wrong_deviations_are_refused(beside: tuple[float | tuple[float, ...], ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_deviations(beside, 2)
