"""Laws of DCAN: shapes, exact context, the parts of its sum, right probabilities."""

import pytest
import torch

from lamella.nets.dcan import DcanConfig


def build(**changes):
    torch.manual_seed(0)
    settings = {"features": (2, 3, 4, 5), "dropout": 0.0, "activation": "gelu", **changes}
    return DcanConfig(**settings).build(1, 2).eval().double()


@pytest.mark.parametrize(
    "changes",
    [{}, {"ndim": 3, "features": (2, 3, 4), "fused": 2, "down": ((1, 2, 2), 2)}, {"down": (2, 3, 2)}, {"fused": 4}],
)
def test_scores_are_as_large_as_the_image(changes):
    net = build(**changes)
    x = torch.rand(2, 1, *(2 * s for s in net.stride), dtype=torch.double)
    fused, levels = net.outputs(x)
    assert fused.shape == (2, 2, *x.shape[2:])
    assert [level.shape for level in levels] == [fused.shape] * net.config.fused
    torch.testing.assert_close(net(x), fused)
    for one, other in zip(net.auxiliary(x), levels, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("changes", [{}, {"down": (2, 3, 2), "fused": 2}, {"convs": 2, "features": (2, 3), "fused": 1}])
def test_context_is_what_reaches_an_output(changes):
    """Nothing farther than the context has a gradient; pooling by maximum leaves gaps, so several images are tried."""
    net = build(**changes)
    context, stride = net.context[0], net.stride[0]
    size = 2 * (-(-context // stride) * stride) + stride
    distance = 0
    for step in range(stride):
        x = torch.rand(8, 1, size, size, dtype=torch.double, requires_grad=True)
        at = (size - stride) // 2 + step
        (gradient,) = torch.autograd.grad(net(x)[:, :, at, size // 2].sum(), x)
        felt = gradient.abs().sum((0, 1, 3)).nonzero()
        distance = max(distance, int((felt - at).abs().max()))
    assert distance == context


def test_the_fused_score_is_the_sum_of_the_levels():
    """A sigmoid's logit is the sum less ln 2, so the levels' logits add up but for that."""
    net = build(final_act="sigmoid")
    fused, levels = net.outputs(torch.rand(1, 1, 16, 16, dtype=torch.double))
    ln2 = torch.log(torch.tensor(2.0, dtype=torch.double))
    torch.testing.assert_close(fused + ln2, sum(level + ln2 for level in levels))


@pytest.mark.parametrize("final_act", ["tanh", "sigmoid"])
def test_probabilities_are_those_of_the_last_activation(final_act):
    """The logit in closed form against the activation itself; p runs over the whole of [0, 1]."""
    net = build(final_act=final_act)
    z = torch.linspace(-20, 15, 200, dtype=torch.double)[None, None]
    s = torch.log1p(torch.exp(z))
    expected = torch.tanh(s) if final_act == "tanh" else 2 * torch.sigmoid(s) - 1
    p = net.probabilities(net._logits(z))
    torch.testing.assert_close(p, expected)
    assert p.min() < 1e-6
    assert p.max() > 1 - 1e-6


def test_branches_share_the_encoder_and_nothing_else():
    net = build()
    x = torch.rand(1, 1, 16, 16, dtype=torch.double)
    before = net(x)
    torch.nn.init.zeros_(net.branches[1].heads[0].conv.weight)
    after = net(x)
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.equal(after[:, 1], before[:, 1])


def test_configs_that_cannot_work_are_refused():
    for changes, why in [
        ({"fused": 7}, "fused 7 is more than the 6 levels"),
        ({"padding": "valid"}, "only padding 'same'"),
        ({"down": (2, 2)}, "down has 2 factors; give 5"),
    ]:
        with pytest.raises(ValueError, match=why):
            DcanConfig(**changes)
