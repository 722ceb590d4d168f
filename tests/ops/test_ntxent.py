"""NT-Xent: hand-computed values, agreement with another library and with its definition, exact gradients, bounded memory."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch.nn import functional as F

from lamella.core.errors import UserError
from lamella.ops import ntxent
from lamella.ops.ntxent import nt_xent


def views(n: int, channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, n, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    first, second = F.normalize(drawn.float(), dim=-1)
    return first, F.normalize(second + first, dim=-1)


def by_definition(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """One place after the other, as the formula is written."""
    everyone = torch.cat([first, second])
    n, parts = len(first), []
    for u in range(2 * n):
        v = (u + n) % (2 * n)
        s = sum(torch.exp(everyone[u] @ everyone[w] / temperature) for w in range(2 * n) if w != u)
        parts.append(torch.log(s) - everyone[u] @ everyone[v] / temperature)
    return sum(parts) / len(parts)


def test_two_places_of_opposite_views_cost_the_log_of_two_plus_e_squared():
    one = torch.ones(2, 1)
    assert nt_xent(one, -one, 1.0).item() == pytest.approx(math.log(2 + math.e**2), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_one_place_costs_nothing(temperature):
    first, second = views(1, 5)
    assert nt_xent(first, second, temperature).item() == pytest.approx(0, abs=1e-6)


def test_no_place_costs_nothing_and_can_be_learnt_from():
    nothing = torch.zeros(0, 3, requires_grad=True)
    loss = nt_xent(nothing, nothing * 2, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert nothing.grad.shape == (0, 3)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_it_is_its_definition_with_its_gradient_however_many_rows_are_held(temperature, rows, monkeypatch):
    monkeypatch.setattr(ntxent, "_PRODUCTS", rows * 26)
    first, second = (v.requires_grad_() for v in views(13, 4))
    expected = by_definition(first, second, temperature)
    gradients = torch.autograd.grad(expected, (first, second))
    found = nt_xent(first, second, temperature)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found, (first, second)), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_it_agrees_with_pytorch_metric_learning(temperature):
    """Which normalises by itself."""
    first, second = (v.mul_(3).requires_grad_() for v in views(60, 8))
    labels = torch.arange(60)
    theirs = NTXentLoss(temperature)(torch.cat([first, second]), torch.cat([labels, labels]))
    ours = nt_xent(F.normalize(first), F.normalize(second), temperature)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for a, b in zip(*(torch.autograd.grad(loss, (first, second)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_long_embeddings_do_not_overflow():
    first, second = (100 * v for v in views(9, 3))
    first.requires_grad_()
    loss = nt_xent(first, second, 0.05)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()


def test_mixed_precision_changes_nothing_inside():
    first, second = views(20, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = nt_xent(first, second, 0.1)
    assert mixed.item() == nt_xent(first, second, 0.1).item()


def test_no_more_products_are_held_than_said(monkeypatch):
    monkeypatch.setattr(ntxent, "_PRODUCTS", 1000)
    held = [products.numel() for _, products in ntxent._products(torch.randn(300, 2), 1.0)]
    assert max(held) <= 1000
    assert sum(held) == 300 * 300


def test_views_of_different_places_and_temperatures_of_nothing_are_refused():
    with pytest.raises(UserError, match="same places"):
        nt_xent(torch.ones(2, 3), torch.ones(3, 3), 0.1)
    with pytest.raises(UserError, match="above 0"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), 0.0)
