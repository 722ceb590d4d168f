"""A dense head and a sparse head of the same weights are the same function."""

import pytest
import torch

from lamella.core.errors import UserError
from lamella.nets.heads import DenseHeadConfig, SparseHeadConfig, check_width
from lamella.ops.points import at_points


@pytest.mark.parametrize("space", [(9, 7), (3, 5, 4)], ids=["2D", "3D"])
@pytest.mark.parametrize("hidden", [(8,), (), (6, 5)], ids=str)
def test_convolutions_give_at_every_voxel_what_linear_layers_give_of_its_embedding(space, hidden):
    torch.manual_seed(0)
    sparse = SparseHeadConfig(hidden=hidden).build(len(space), 4, 3)
    maps = torch.randn(2, 4, *space)
    found = sparse.dense(len(space))(maps)
    assert found.shape == (2, 3, *space)
    torch.testing.assert_close(found, sparse(maps.movedim(1, -1)).movedim(-1, 1))
    assert sum(p.numel() for p in sparse.parameters()) == sum(p.numel() for p in sparse.dense(2).parameters())


def test_points_are_read_where_they_lie():
    torch.manual_seed(0)
    sparse = SparseHeadConfig().build(2, 4, 2)
    maps, points = torch.randn(2, 4, 8, 8), torch.rand(2, 5, 2) * 7
    torch.testing.assert_close(sparse.at(maps, points), sparse(at_points(maps, points)))
    whole = torch.tensor([[[3.0, 4.0]], [[0.0, 7.0]]])
    torch.testing.assert_close(sparse.at(maps, whole)[0, 0], sparse.dense(2)(maps)[0, :, 3, 4])


def test_dense_heads_learn_what_sparse_heads_learn():
    torch.manual_seed(0)
    sparse = SparseHeadConfig().build(2, 3, 2)
    dense = sparse.dense(2)
    maps = torch.randn(1, 3, 4, 4)
    sparse(maps.movedim(1, -1)).square().mean().backward()
    dense(maps).square().mean().backward()
    for linear, conv in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(linear.grad, conv.grad.reshape(linear.shape))


def test_widths_are_checked():
    with pytest.raises(UserError, match="widths of at least 1"):
        DenseHeadConfig.load({"hidden": [0]})
    with pytest.raises(UserError, match="have 5 channels, the head was made for 4"):
        check_width(4, 5, "the embeddings")
