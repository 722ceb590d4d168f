"""Laws of the U-Net: shapes, exact context, translation, folding, parts equal to the whole."""

import pytest
import torch

from lamella.core.errors import UserError
from lamella.nets.blocks import fold, fuse, lower, unfold
from lamella.nets.dcan import DcanConfig
from lamella.nets.unet import UNetConfig

SHAPES = {
    "plain": {"down": (2, 2)},
    "fold": {"down": (2,), "fold": 2},
    "threes": {"down": (3,), "fold": (1, 2)},
    "linear": {"down": (2, 4), "upsampling": "linear"},
    "linear odd": {"down": (3, 2), "upsampling": "linear", "convs": 1},
    "transpose": {"down": (2, 2), "upsampling": "transpose", "pooling": "conv"},
    "residual": {"down": (2,), "residual": True, "order": "norm-act-conv"},
    "add": {"down": (2, 2), "skip": "add", "decoder": 3, "order": "conv-act-norm"},
    "kernels": {"down": (2,), "kernels_down": ((5, 1), ((1, 3), 3)), "kernels_up": ((3,),)},
    "3d": {"ndim": 3, "down": ((1, 2, 2), 2), "kernel": (1, 3, 3)},
    "one level": {"down": (), "kernel": 5},
    "unfolded linearly": {"down": (2,), "fold": (2, 3), "unfolding": "linear"},
}


def build(padding="same", **changes):
    torch.manual_seed(0)
    settings = {"features": 2, "pooling": "average", "activation": "gelu", "padding": padding, **changes}
    return UNetConfig(**settings).build(1, 2).eval().double()


def whole(net, cells=3):
    return [cells * s + 2 * m for s, m in zip(net.stride, net.margin, strict=True)]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_is_the_input_less_the_margin(shape, padding):
    net = build(padding, **SHAPES[shape])
    x = torch.rand(2, 1, *whole(net), dtype=torch.double)
    assert net(x).shape == (2, 2, *(3 * s for s in net.stride))
    assert all(m % s == 0 for m, s in zip(net.margin, net.stride, strict=True))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_context_is_exact(shape, padding):
    """The farthest voxel with an influence on any of one stride's outputs is ``context`` away, on each axis."""
    net = build(padding, **SHAPES[shape])
    size = [2 * (-(-c // s) * s) + s for c, s in zip(net.context, net.stride, strict=True)]
    for axis, (context, stride) in enumerate(zip(net.context, net.stride, strict=True)):
        assert farthest(net, size, axis) == context, (axis, stride)


def farthest(net, size, axis):
    distance = 0
    for step in range(net.stride[axis]):
        x = torch.rand(1, 1, *size, dtype=torch.double, requires_grad=True)
        first = [(n - 2 * m - s) // 2 for n, m, s in zip(size, net.margin, net.stride, strict=True)]
        first[axis] += step
        (gradient,) = torch.autograd.grad(net(x)[(0, slice(None), *first)].sum(), x)
        felt = gradient[0, 0].movedim(axis, 0).flatten(1).abs().sum(1).nonzero()
        distance = max(distance, int((felt - first[axis] - net.margin[axis]).abs().max()))
    return distance


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_part_with_its_context_equals_the_whole(shape, padding):
    net = build(padding, **{"pooling": "max", **SHAPES[shape]})
    rounded = [-(-c // s) * s for c, s in zip(net.context, net.stride, strict=True)]
    size = [2 * c + 4 * s for c, s in zip(rounded, net.stride, strict=True)]
    x = torch.rand(1, 1, *size, dtype=torch.double)
    part = x[(..., *(slice(s, 2 * c + 3 * s) for c, s in zip(rounded, net.stride, strict=True)))]
    inner = [c - m for c, m in zip(rounded, net.margin, strict=True)]
    here = tuple(slice(i, i + 2 * s) for i, s in zip(inner, net.stride, strict=True))
    there = tuple(slice(i + s, i + 3 * s) for i, s in zip(inner, net.stride, strict=True))
    torch.testing.assert_close(net(part)[(..., *here)], net(x)[(..., *there)])


@pytest.mark.parametrize("shape", SHAPES)
def test_valid_and_same_padding_agree_where_the_image_decides(shape):
    same, valid = build("same", **SHAPES[shape]), build("valid", **SHAPES[shape])
    valid.load_state_dict(same.state_dict())
    x = torch.rand(1, 1, *whole(valid), dtype=torch.double)
    inner = tuple(slice(m, n - m) for m, n in zip(valid.margin, x.shape[2:], strict=True))
    torch.testing.assert_close(valid(x), same(x)[(..., *inner)])


@pytest.mark.parametrize("factor", [(2, 3), (1, 4), (2, 1, 3)])
def test_folding_loses_no_voxel(factor):
    x = torch.rand(2, 3, *(2 * f for f in factor))
    folded = fold(x, factor)
    assert folded.shape == (2, 3 * torch.tensor(factor).prod(), *(2,) * len(factor))
    assert torch.equal(unfold(folded, factor), x)


def test_a_cell_holds_the_block_of_voxels_at_its_place():
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert fold(x, (2, 2))[0, :, 1, 2].tolist() == [16, 17, 22, 23]


def test_fusing_norms_changes_nothing():
    net = build(down=(2,))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    x = torch.rand(1, 1, 8, 8, dtype=torch.double)
    before = net(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fuse(net).modules())
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize(
    "config", [UNetConfig(features=8, down=(2,)), DcanConfig(features=(4, 8, 16), branch_features=4)]
)
def test_lowered_precision_keeps_fine_outputs(config):
    """Half precision has 256 values between two powers of two; the last sum is not rounded to them."""
    torch.manual_seed(0)
    net = config.build(1, 2).eval()
    x = torch.rand(1, 1, 64, 64)
    whole = net(x)
    lowered = lower(net, torch.bfloat16)(x.bfloat16())
    assert lowered.dtype == torch.float32
    assert (lowered - whole).abs().max() < 0.05 * whole.abs().max()
    assert lowered.unique().numel() > 1.5 * lowered.bfloat16().unique().numel()


@pytest.mark.parametrize("norm", ["group", "instance", "none", "batch"])
def test_only_stored_statistics_are_seamless(norm):
    net = build(norm=norm, down=(2,), features=8)
    x = torch.rand(1, 1, 48, 48, dtype=torch.double)
    part = net(x[..., 8:40, 8:40])[..., 14:18, 14:18]
    assert net.seamless == torch.allclose(part, net(x)[..., 22:26, 22:26])


def test_input_is_left_as_it_was():
    net = build(order="norm-act-conv", norm="none", activation="relu", residual=True, down=())
    x = torch.randn(1, 1, 8, 8, dtype=torch.double)
    kept = x.clone()
    net(x)
    assert torch.equal(x, kept)


def test_configs_that_cannot_work_are_refused():
    for changes, why in [
        ({"kernel": 4}, r"kernel \(4, 4\) has an even side; use \(5, 5\)"),
        ({"features": (4, 8)}, "features has 2 entries; give 4"),
        ({"down": ((2, 2, 2),)}, "must be one number of at least 1, or 2 of them"),
        ({"kernels_up": ((3,),)}, "kernels_up has 1 entries; give 3"),
        ({"kernels_down": ((3,), (), (3,), (3,))}, "has a level without kernels"),
    ]:
        with pytest.raises(ValueError, match=why):
            UNetConfig(**changes)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"\(30, 32\) does not divide into \(4, 4\); pad it to \(32, 32\)"):
        build(down=(2, 2))(torch.rand(1, 1, 30, 32, dtype=torch.double))
    with pytest.raises(UserError, match="has 3 channels, the net was made for 1"):
        build()(torch.rand(1, 3, 32, 32, dtype=torch.double))
    valid = build("valid", down=(2,))
    with pytest.raises(UserError, match=f"give at least \\({2 * valid.margin[0] + 2},"):
        valid(torch.rand(1, 1, 4, 4, dtype=torch.double))
