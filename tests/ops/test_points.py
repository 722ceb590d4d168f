"""Values of maps at points: by hand, exact for what is linear, and the voxels themselves at their centres."""

import pytest
import torch

from lamella.ops.points import at_points, inside


def test_between_voxels_by_hand():
    maps = torch.tensor([[[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]]])
    points = torch.tensor([[[0.5, 0.5], [0.25, 2.0], [1.0, 0.75], [-3.0, 1.0]]])
    assert at_points(maps, points)[0, :, 0].tolist() == pytest.approx([5.5, 4.5, 10.75, 1.0])
    assert at_points(maps, points, "nearest")[0, :, 0].tolist() == [11.0, 2.0, 11.0, 1.0]


@pytest.mark.parametrize("space", [(7, 9), (4, 6, 5)])
def test_a_linear_map_is_read_exactly_and_differentiated(space):
    generator = torch.Generator().manual_seed(0)
    axes = [torch.arange(float(n)) for n in space]
    maps = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].requires_grad_()
    points = torch.rand(1, 30, len(space), generator=generator) * (torch.tensor(space) - 1)
    found = at_points(maps, points)
    torch.testing.assert_close(found, points)
    found.sum().backward()
    assert maps.grad.sum().item() == pytest.approx(30 * len(space), rel=1e-5)


@pytest.mark.parametrize("sampling", ["linear", "nearest"])
@pytest.mark.parametrize("space", [(5, 8), (3, 4, 6)])
def test_at_centres_stand_the_voxels(space, sampling):
    maps = torch.randn(2, 3, *space, generator=torch.Generator().manual_seed(1))
    centres = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in space), indexing="ij"), -1)
    found = at_points(maps, centres.reshape(1, -1, len(space)).expand(2, -1, -1), sampling)
    torch.testing.assert_close(found, maps.flatten(2).transpose(1, 2))


def test_inside_is_between_the_outermost_centres():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.1, 0.0], [-0.1, 2.0], [torch.nan, 1.0]]])
    assert inside(points, (4, 5)).tolist() == [[True, True, False, False, False]]
