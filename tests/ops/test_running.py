"""Running means are the means of windows, in 2D and 3D and for any side, and so are their gradients."""

import pytest
import torch
from torch.nn import functional as F

from lamella.ops.running import running_mean

POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


@pytest.mark.parametrize("side", range(1, 12))
def test_each_value_is_the_mean_of_its_window(side):
    x = torch.rand(2, 3, 11, 14, dtype=torch.double)
    torch.testing.assert_close(running_mean(x, (side, side)), F.avg_pool2d(x, side, 1))


@pytest.mark.parametrize("sides", [(1, 1), (3, 1), (4, 7), (1, 5, 7), (2, 3, 8), (9, 10, 11)])
def test_gradients_are_those_of_the_means(sides):
    x = torch.rand(1, 2, *(9, 10, 11)[-len(sides) :], dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(running_mean(x, sides), POOL[len(sides)](x, sides, 1))
    assert torch.autograd.gradcheck(lambda t: running_mean(t, sides) ** 2, x)


def test_windows_larger_than_the_image_are_an_error():
    with pytest.raises(ValueError, match="do not fit"):
        running_mean(torch.rand(1, 1, 5, 5), (6, 3))
