"""The 2.5D U-Net: windows of slices in, one slice or all of them out; exact about how far it looks."""

import pytest
import torch

from lamella.core.errors import UserError
from lamella.nets.stack_unet import StackUNetConfig
from tests.nets.test_unet import farthest

SHAPES = {
    "plain": {"features": (2, 3, 4), "down": (2, 2)},
    "stack": {"features": (2, 3), "down": (2,), "output": "stack"},
    "fold": {"features": (2, 3), "down": (2,), "fold": 2},
    "unfolded": {"features": (2, 3), "down": (2,), "fold": 2, "unfolding": "linear"},
    "unfolded stack": {"features": (2, 3), "down": (2,), "fold": 2, "unfolding": "linear", "output": "stack"},
    "linear add": {"features": (2, 3), "down": (3,), "upsampling": "linear", "skip": "add", "residual": True},
    "conv": {"features": (2, 3), "down": (2,), "pooling": "conv", "upsampling": "transpose", "convs": 1},
}


def build(depth=5, channels=2, outputs=3, **changes):
    torch.manual_seed(0)
    settings = {"pooling": "average", "activation": "gelu", "features": (2, 3), "down": (2,), **changes}
    return StackUNetConfig(**settings).build(channels, outputs, depth).eval().double()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_a_2d_net_from_outside(shape):
    net = build(**SHAPES[shape])
    assert net.in_channels == 10
    assert net.out_channels == (15 if "stack" in shape else 3)
    size = [3 * s for s in net.stride]
    x = torch.rand(2, 10, *size, dtype=torch.double)
    assert net(x).shape == (2, net.out_channels, *size)


@pytest.mark.parametrize("shape", SHAPES)
def test_context_is_exact(shape):
    net = build(channels=1, outputs=1, depth=1, **SHAPES[shape])
    size = [2 * (-(-c // s) * s) + s for c, s in zip(net.context, net.stride, strict=True)]
    assert [farthest(net, size, axis) for axis in (0, 1)] == list(net.context)


def test_every_slice_of_the_window_is_seen():
    net = build()
    x = torch.rand(1, 10, 8, 8, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert (gradient.abs().amax((0, 2, 3)) > 0).all()


def test_channels_of_the_input_are_windows_one_after_the_other():
    """Turning the order of slices round in the input and in all kernels along z gives the same slice."""
    net = build()
    x = torch.rand(1, 10, 8, 8, dtype=torch.double)
    before = net(x)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.flip(2)
    turned = x.unflatten(1, (2, 5)).flip(2).flatten(1, 2)
    torch.testing.assert_close(net(turned), before)


def test_skips_are_collapsed_by_a_convolution_over_the_whole_depth():
    net = build(depth=7)
    assert [tuple(layer.kernel_size) for layer in net.collapse] == [(7, 1, 1)] * 2
    assert all(layer.padding == (0, 0, 0) for layer in net.collapse)
    assert {m.kernel_size for m in net.up.modules() if isinstance(m, torch.nn.Conv2d)} == {(3, 3)}
    flat = {m.kernel_size for m in build(output="stack").up.modules() if isinstance(m, torch.nn.Conv3d)}
    assert flat == {(1, 3, 3)}


def test_even_depths_and_other_channels_are_refused():
    with pytest.raises(UserError, match=r"depth 4 is even.*3 or 5"):
        build(depth=4)
    with pytest.raises(UserError, match="2 channels of 5 slices; give 10"):
        build()(torch.rand(1, 9, 8, 8, dtype=torch.double))
    with pytest.raises(UserError, match="pad it to"):
        build()(torch.rand(1, 10, 9, 8, dtype=torch.double))
    with pytest.raises(ValueError, match="one more than down"):
        StackUNetConfig(features=(2,))
    with pytest.raises(ValueError, match="kernel 4 is even"):
        StackUNetConfig(kernel=4)
