"""Laws of a net applied to images of any size: nothing is lost at edges, turning averages, blocks equal the whole."""

import pickle

import numpy as np
import pytest
import torch

from lamella.blockwise import cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.infer import Blended, InferSettings, NetOp, PlaneOp
from lamella.nets.dcan import DcanConfig
from lamella.nets.unet import UNetConfig
from lamella.ops.intensity import Scaling

EXACT = {"precision": "float32"}
NETS = {
    "unet": UNetConfig(features=2, down=(2, 2)),
    "folded": UNetConfig(features=2, down=(2,), fold=2, upsampling="linear"),
    "valid": UNetConfig(features=2, down=(2, 2), padding="valid"),
    "dcan": DcanConfig(features=(2, 3, 4), branch_features=2),
    "volume": UNetConfig(ndim=3, features=2, down=((1, 2, 2), 2), kernel=(1, 3, 3)),
}


def build(kind="unet", mirror=0, channels=1, **settings):
    torch.manual_seed(0)
    net = NETS[kind].build(channels, 2)
    for module in net.modules():  # statistics as training leaves them
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    scaling = Scaling((0.2,) * channels, (1.5,) * channels)
    return NetOp(net, scaling, mirror=mirror, settings=InferSettings(**{**EXACT, **settings}))


def image(*space, channels=1):
    return np.random.default_rng(0).random((channels, *space), np.float32)


@pytest.mark.parametrize("kind", NETS)
def test_maps_are_probabilities_as_large_as_the_image_whatever_its_size(kind):
    op = build(kind)
    for space in [(13, 17, 21), (1, 4, 40), (5, 1, 1)]:
        maps = op(image(*space[-len(op.stride) :]))
        assert maps.shape == (2, *space[-len(op.stride) :])
        assert maps.dtype == np.float32
        assert 0 < maps.min() <= maps.max() < 1


def test_it_is_the_net_on_the_scaled_image():
    op, x = build(), image(16, 24)
    with torch.no_grad():
        expected = torch.sigmoid(op.net.eval()(torch.from_numpy((x - 0.2) * 1.5)[None]))[0]
    np.testing.assert_allclose(op(x), expected, atol=1e-6)


def test_sizes_that_do_not_divide_see_the_mirrored_image():
    op, x = build(), image(14, 19)
    whole = np.pad(x, ((0, 0), (0, 2), (0, 1)), mode="reflect")
    np.testing.assert_array_equal(op(x), op(whole)[:, :14, :19])


def test_mirrored_surroundings_are_those_of_training():
    x = image(16, 16)
    shown = np.pad(x, ((0, 0), (8, 8), (8, 8)), mode="reflect")
    np.testing.assert_allclose(build(mirror=5)(x), build()(shown)[:, 8:-8, 8:-8], atol=1e-6)


@pytest.mark.parametrize("kind", ["unet", "valid", "volume"])
@pytest.mark.parametrize("views", [{"flips": True}, {"flips": True, "rotations": True}])
def test_averaging_over_turned_copies_turns_with_the_image(kind, views):
    op = build(kind, **views)
    x = image(*(8, 24, 24)[-len(op.stride) :])
    maps = op(x)
    np.testing.assert_allclose(op(x[..., ::-1]), maps[..., ::-1], atol=1e-6)
    np.testing.assert_allclose(op(x[..., ::-1, :]), maps[..., ::-1, :], atol=1e-6)
    turned = np.abs(op(np.swapaxes(x, -1, -2)) - np.swapaxes(maps, -1, -2)).max()
    assert (turned < 1e-6) == ("rotations" in views)


@pytest.mark.parametrize("kind", NETS)
def test_tiles_give_what_the_whole_gives(kind):
    x = image(*(9, 50, 70)[-len(NETS[kind].build(1, 1).stride) :])
    np.testing.assert_allclose(build(kind, tile=16, batch=3)(x), build(kind)(x), atol=2e-6)


@pytest.mark.parametrize("settings", [{"mirror": 3}, {"flips": True}, {"precision": "bfloat16"}])
@pytest.mark.parametrize("kind", NETS)
def test_blocks_equal_the_whole(kind, settings):
    op = build(kind, **settings)
    x = image(*(10, 74, 50)[-len(op.stride) :])
    whole, atol = op(x), 2e-6 if op.dtype == torch.float32 else 5e-3
    space = Box.of(x.shape[1:])
    size = [32 // s * s if n > 32 else n for n, s in zip(space.shape, op.stride, strict=True)]
    for block in cover(space, size, op.context, bounds=space, align=op.stride):
        part = op(x[(slice(None), *block.read.slices())])
        there = whole[(slice(None), *block.write.slices())]
        np.testing.assert_allclose(part[(slice(None), *block.inside)], there, atol=atol)


@pytest.mark.parametrize("overlap", [0, 8, 16])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_blended_blocks_equal_the_whole_to_the_bit_whatever_the_norm(overlap, norm):
    net = UNetConfig(features=2, down=(2,), norm=norm).build(1, 2)
    settings = InferSettings(precision="float32", tile=32, overlap=overlap)
    op = Blended(NetOp(net, Scaling((0.0,), (1.0,)), settings=settings))
    for size in [(100, 71), (32, 16), (20, 49), (64, 33)]:
        x, space = image(*size), Box.of(size)
        whole = op(x)
        for block in cover(space, 40, op.context, bounds=space, align=op.stride):
            part = op(x[(slice(None), *block.read.slices())])
            np.testing.assert_array_equal(
                part[(slice(None), *block.inside)], whole[(slice(None), *block.write.slices())]
            )


def test_blending_leaves_no_step_where_tiles_meet():
    """Tiles that answer their own number blend into a staircase with ramps as wide as the overlap."""
    op = Blended(build(tile=32, overlap=16))
    answers = iter(range(100))
    op.op.many = lambda patches: np.full((1, 1, *patches.shape[2:]), next(answers), np.float32)
    row = op(image(32, 96))[0, 0]
    assert set(row[:16]) == {0.0}
    assert np.abs(np.diff(row)).max() < 1 / 12
    assert (np.diff(row) >= 0).all()


def test_overlaps_that_leave_no_core_are_refused():
    with pytest.raises(UserError, match="overlap 24 leaves too little of a tile of 32"):
        Blended(build(tile=32, overlap=24))


@pytest.mark.parametrize("slices", [1, 3])
def test_planes_of_a_volume_are_images_with_their_neighbours_as_channels(slices):
    x = image(5, 24, 16, channels=2)
    op = build(channels=2 * slices)
    maps = PlaneOp(op, slices)(x)
    assert maps.shape == (2, 5, 24, 16)
    for z in range(5):
        near = [min(max(z + k, 0), 4) for k in range(-(slices // 2), slices // 2 + 1)]
        alone = op(x[:, near].reshape(-1, 24, 16))
        np.testing.assert_allclose(maps[:, z], alone, atol=1e-6)


def test_planes_in_batches_are_the_same():
    x = image(7, 16, 16)
    np.testing.assert_allclose(PlaneOp(build(batch=3))(x), PlaneOp(build())(x), atol=1e-6)


def test_an_op_travels_and_leaves_its_net_alone():
    op, x = build(), image(16, 16)
    names = set(op.net.state_dict())
    first = op(x)
    assert set(op.net.state_dict()) == names
    assert op.net.training
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(op))(x), first)


def test_ops_are_told_apart():
    a, b = build(), build(flips=True)
    assert a.identity() == build().identity()
    assert a.identity() != b.identity()
    with torch.no_grad():
        next(a.net.parameters()).add_(1)
    assert a.identity() != build().identity()
