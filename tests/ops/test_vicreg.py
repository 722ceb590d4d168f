"""VICReg by hand-computed answers, and what it cannot be fooled by."""

import pytest
import torch

from lamella.core.errors import UserError
from lamella.ops.vicreg import vicreg


def test_hand_computed():
    first = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    second = first + torch.tensor([1.0, 0.0])
    narrow = (1 - 1e-4**0.5) / 2  # of the two channels one is constant
    assert vicreg(first, second).item() == pytest.approx(25 * 0.5 + 2 * 25 * narrow, abs=1e-4)


def test_collapse_costs_more_than_spread():
    torch.manual_seed(0)
    spread = torch.randn(500, 8) * 1.5
    point, line = torch.ones(500, 8), spread[:, :1].expand(500, 8)
    assert vicreg(spread, spread) < vicreg(line, line) < vicreg(point, point) + 1000
    assert vicreg(point, point).item() == pytest.approx(2 * 25 * (1 - 0.01), abs=1e-3)


def test_it_grows_with_the_difference_of_views_and_is_symmetric():
    torch.manual_seed(0)
    first, second = torch.randn(50, 4), torch.randn(50, 4)
    assert vicreg(first, first) < vicreg(first, 0.5 * (first + second)) < vicreg(first, second)
    assert vicreg(first, second).item() == pytest.approx(vicreg(second, first).item(), rel=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_places_give_zero_with_gradients(number):
    first = torch.randn(number, 3, requires_grad=True)
    loss = vicreg(first, torch.randn(number, 3))
    loss.backward()
    assert loss.item() == 0
    assert first.grad is not None


def test_views_of_other_places_are_refused():
    with pytest.raises(UserError, match="same places"):
        vicreg(torch.zeros(3, 2), torch.zeros(4, 2))
