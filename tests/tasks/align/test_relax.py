"""Laws of joining fields: votes, band matrices, and the relaxation of a whole stack."""

import numpy as np
import pytest
import torch

from lamella.ops.field import invert, smooth_field, warp
from lamella.tasks.align.bands import factored, solved
from lamella.tasks.align.relax import Links, Relaxation, Springs
from lamella.tasks.align.vote import filled, vote

SIDE = 40
RIM = 6  # pixels, where fields look outside


def truth(num=7, seed=0):
    """Fields (z, 2, y, x) of sections, of which the first is not moved."""
    rng = np.random.default_rng(seed)
    fields = [smooth_field(rng, (SIDE, SIDE), 2.5, 20.0) for _ in range(num)]
    return torch.cat([torch.zeros_like(fields[0]), *fields[1:]]).double()


def linked(fields, reach, corner=0):
    """Links as perfect matches of all sections up to ``reach`` apart would give them, ``corner`` pixels larger on each side."""
    pairs = [(z, z - j) for z in range(len(fields)) for j in range(1, min(reach, z) + 1)]
    steps = []
    for source, target in pairs:
        apart = torch.nn.functional.pad((fields[source] - fields[target])[None], (corner,) * 4, mode="replicate")
        base = torch.nn.functional.pad(fields[target][None], (corner,) * 4, mode="replicate")
        steps.append(warp(apart, invert(base), padding="border"))
    found = torch.cat(steps)
    corners = torch.full((len(pairs), 2), -float(corner), dtype=fields.dtype)
    return Links([s for s, _ in pairs], [t for _, t in pairs], found, torch.ones_like(found[:, :1]), corners)


def inner(fields):
    return fields[..., RIM:-RIM, RIM:-RIM]


def spoilt(links, sections, seed=1):
    """The links of ``sections`` replaced by others that have nothing to do with anything."""
    rng = np.random.default_rng(seed)
    steps = links.steps.clone()
    for n, (source, target) in enumerate(zip(links.source, links.target, strict=True)):
        if source in sections or target in sections:
            steps[n] = smooth_field(rng, (steps.shape[-2], steps.shape[-1]), 12.0, 30.0)[0].double()
    return Links(links.source, links.target, steps, links.weights, links.corner)


# Votes


def same(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 2, 3, 4)


def weights(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 3, 4)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_two_that_agree_outvote_one_whatever_their_order(order):
    values = np.array([1.0, 1.2, 9.0])[list(order)]
    found = vote(same(*values), weights(1, 1, 1), 0.2)
    torch.testing.assert_close(found, torch.full_like(found, 1.1), atol=0.15, rtol=0)


def test_what_has_no_weight_has_no_vote():
    found = vote(same(1.0, 9.0, 9.0), weights(0.5, 0, 0), 0.2)
    torch.testing.assert_close(found, torch.full_like(found, 1.0))
    assert not vote(same(1.0, 9.0), weights(0, 0), 0.2).any()


def test_a_sure_candidate_needs_no_second_and_a_doubtful_one_is_outvoted():
    sure = vote(same(1.0, 9.0, 9.0), weights(1, 0.2, 0.2), 0.2)
    torch.testing.assert_close(sure, torch.full_like(sure, 1.0), atol=0.05, rtol=0)
    doubtful = vote(same(1.0, 9.0, 9.0), weights(0.2, 0.2, 0.2), 0.2)
    torch.testing.assert_close(doubtful, torch.full_like(doubtful, 9.0), atol=0.3, rtol=0)


def test_candidates_that_agree_are_averaged_by_weight():
    found = vote(same(1.0, 1.1), weights(3, 1), 100.0)
    assert found.min() >= 1.0
    assert found.max() <= 1.05


def test_holes_are_filled_from_around_and_nothing_else_changes():
    field = torch.full((1, 2, 13, 17), 3.0, dtype=torch.float64)
    weight = torch.ones(1, 1, 13, 17, dtype=torch.float64)
    weight[..., 4:9, 5:12] = 0
    field[..., 4:9, 5:12] = 99
    torch.testing.assert_close(filled(field, weight), torch.full_like(field, 3.0))
    uneven = torch.rand(1, 2, 13, 17, dtype=torch.float64)
    assert torch.equal(filled(uneven, torch.ones_like(weight)), uneven)
    assert not filled(uneven, torch.zeros_like(weight)).any()


# Band matrices


def test_band_matrices_are_solved_as_numpy_solves_them():
    torch.manual_seed(0)
    num, width = 9, 3
    below = torch.randn(num, num, 2, 3, dtype=torch.float64)
    for i in range(num):
        for j in range(num):
            if not 0 <= i - j <= width:
                below[i, j] = 0
    below[range(num), range(num)] = 2 + below[range(num), range(num)].abs()
    dense = torch.einsum("ikyx,jkyx->ijyx", below, below)
    bands = [torch.zeros(num, 1, 2, 3, dtype=torch.float64) for _ in range(width + 1)]
    for j in range(width + 1):
        for i in range(j, num):
            bands[j][i, 0] = dense[i, i - j]
    right = torch.randn(num, 2, 2, 3, dtype=torch.float64)
    found = solved(factored(bands), right)
    expected = np.linalg.solve(dense.permute(2, 3, 0, 1).numpy(), right.permute(2, 3, 0, 1).numpy())
    np.testing.assert_allclose(found.permute(2, 3, 0, 1).numpy(), expected, rtol=1e-9, atol=1e-9)


# Relaxation


@pytest.mark.parametrize("reach", [1, 3])
def test_fields_are_recovered_from_perfect_links(reach):
    fields = truth()
    found = Relaxation(0.5, 0.0, updates=8)(torch.zeros_like(fields), linked(fields, reach), 0 * fields, [0])
    assert not found[0].any()
    assert inner(found - fields).abs().max() < 0.1
    assert inner(found - fields).abs().mean() < 0.015


def test_links_may_begin_elsewhere_than_the_stack():
    fields = truth(4)
    relax = Relaxation(0.5, 0.0, updates=8)
    found, larger = (relax(torch.zeros_like(fields), linked(fields, 2, c), 0 * fields, [0]) for c in (0, 8))
    torch.testing.assert_close(inner(larger), inner(found), atol=0.05, rtol=0)


def test_links_of_sections_seen_through_other_fields_say_the_same():
    fields, reference = truth(4), truth(4, seed=3)
    links = linked(fields, 2)
    seen = []
    for n, (source, target) in enumerate(zip(links.source, links.target, strict=True)):
        # what is at q of the reference picture lies at p of the stack with p + u(p) = q + reference(q)
        there = reference[target][None]
        seen.append(warp(links.steps[n][None], there, padding="border"))
        assert source > target
    through = Links(links.source, links.target, torch.cat(seen), links.weights, links.corner)
    found = Relaxation(0.5, 0.0, updates=8)(reference.clone(), through, reference, [0])
    assert inner(found - fields).abs().mean() < 0.1


def test_a_section_with_wrong_links_moves_no_other():
    fields = truth(9)
    links = spoilt(linked(fields, 3), {4})
    start = fields.clone()
    start[4] = 5.0
    found = Relaxation(0.5, 0.0)(start, links, 0 * fields, [0])
    others = [z for z in range(9) if z != 4]
    assert inner(found - fields)[others].abs().max() < 0.15
    blind = Relaxation(1e6, 0.0)(start, links, 0 * fields, [0])  # plain least squares
    assert inner(blind - fields)[others].abs().max() > 1


def test_both_ends_may_stay():
    fields = truth(6)
    fields[-1] = 0
    found = Relaxation(0.5, 0.0)(torch.zeros_like(fields), linked(fields, 2), 0 * fields, [0, 5])
    assert not found[0].any()
    assert not found[5].any()
    assert inner(found - fields).abs().mean() < 0.03


def test_a_section_without_links_stays_where_it_was():
    links = linked(truth(3), 2)
    links = Links(links.source, links.target, links.steps, 0 * links.weights, links.corner)
    start = torch.rand(3, 2, SIDE, SIDE, dtype=torch.float64)
    assert torch.equal(Relaxation(0.5, 0.0)(start, links, 0 * start, [0]), start)


def test_springs_fill_what_no_link_tells_of_evenly():
    # one free section between columns that its link holds at 0 on the left and at 1 on the right
    size = 24
    steps = torch.zeros(1, 2, size, size, dtype=torch.float64)
    steps[..., size // 2 :] = 1
    weight = torch.zeros(1, 1, size, size, dtype=torch.float64)
    weight[..., 0] = weight[..., -1] = 1e4
    links = Links([1], [0], steps, weight, torch.zeros(1, 2, dtype=torch.float64))
    start = torch.zeros(2, 2, size, size, dtype=torch.float64)
    found = Relaxation(100.0, 1.0, levels=1, updates=40, sweeps=60)(start, links, start, [0])
    ramp = torch.linspace(0, 1, size, dtype=torch.float64)
    torch.testing.assert_close(found[1, 0, size // 2], ramp, atol=0.03, rtol=0)


def test_no_spring_leads_across_what_is_torn():
    size, at = 24, 12
    steps = torch.where(torch.arange(size) < at, -3.0, 3.0).double().expand(1, 2, size, size)
    links = Links([1], [0], steps, torch.ones(1, 1, size, size).double(), torch.zeros(1, 2).double())
    start, whole = torch.zeros(2, 2, size, size).double(), torch.ones(2, 1, size, size).double()
    torn = whole.clone()
    torn[..., at - 1 : at + 1] = 0
    relax = Relaxation(50.0, 5.0, updates=10, sweeps=20)
    joined, apart = (relax(start, links, start, [0], w)[1] for w in (whole, torn))
    assert (apart - steps[0]).abs().max() < 0.1
    assert (joined - steps[0]).abs().max() > 1


def test_turning_costs_rigid_springs_nothing_and_stretching_does():
    y, x = torch.meshgrid(torch.arange(9.0) - 4, torch.arange(9.0) - 4, indexing="ij")
    angle = torch.tensor(0.4)
    turned = torch.stack([y * (angle.cos() - 1) - x * angle.sin(), y * angle.sin() + x * (angle.cos() - 1)])[None]
    stretched = torch.stack([0.2 * y, 0 * x])[None]
    whole = torch.ones(1, 1, 9, 9)
    rigid, equal = Springs.between(whole, 1.0, "rigidity"), Springs.between(whole, 1.0, "jacob")
    assert rigid.force(turned).abs().max() < 1e-5
    assert rigid.force(stretched).abs().max() > 0.1
    assert equal.force(turned).abs().max() > 0.1
    assert equal.force(torch.full_like(turned, 7.0)).abs().max() < 1e-6
