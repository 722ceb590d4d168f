"""Laws of vector voting."""

import pytest
import torch

from lamella.ops.vote import vote


def fields(*vectors):
    return torch.stack([torch.tensor(v, dtype=torch.float32).view(2, 1, 1).expand(2, 6, 7) for v in vectors])


def test_one_or_equal_estimates_are_the_result():
    one = torch.randn(1, 2, 6, 7)
    assert torch.equal(vote(one), one[0])
    torch.testing.assert_close(vote(one.expand(3, -1, -1, -1)), one[0])


def test_a_bad_estimate_is_outvoted():
    result = vote(fields((1, 1), (1.2, 1), (30, -20)))
    torch.testing.assert_close(result, fields((1.1, 1))[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_order_of_the_estimates_does_not_matter(order):
    estimates = torch.randn(3, 2, 6, 7)
    torch.testing.assert_close(vote(estimates[list(order)]), vote(estimates))


def test_five_estimates_stand_two_bad_ones():
    result = vote(fields((0, 0), (0, 0), (0, 0), (9, 9), (-9, 9)))
    assert result.abs().max() < 1e-2


def test_smoothed_weights_do_not_jump_where_the_majority_changes():
    estimates = fields((0, 0), (0, 0), (8, 0)).clone()
    estimates[1, 0, :, 4:] = 8.0
    sharp, smooth = (vote(estimates, smooth=s)[0, 3].diff().abs().max() for s in (0, 2))
    assert smooth < 0.8 * sharp
