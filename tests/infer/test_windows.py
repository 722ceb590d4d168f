"""Windows of slices laid over a volume: every slice the mean of the windows that hold it, blocks as the whole."""

import numpy as np
import torch
from torch import nn

from lamella.infer import InferSettings, NetOp
from lamella.infer.windows import WindowOp


class Same(nn.Module):
    """Gives its window back, each slice times a factor of its place in it."""

    stride, context, margin, seamless = (1, 1), (0, 0), (0, 0), True

    def __init__(self, factors):
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors, dtype=torch.float32))

    def forward(self, x):
        return x * self.factors.repeat(x.shape[1] // len(self.factors))[:, None, None]


def op(factors):
    plain = InferSettings(precision="float32")
    net = NetOp(Same(factors), lambda patch: patch.astype(np.float32), lambda raw: raw, settings=plain)
    return WindowOp(net, len(factors))


def test_a_net_that_changes_nothing_gives_the_volume():
    volume = np.random.default_rng(0).random((2, 7, 4, 5), dtype=np.float32)
    np.testing.assert_allclose(op([1.0, 1.0, 1.0, 1.0, 1.0])(volume), volume, rtol=1e-6)


def test_windows_weigh_most_in_their_middle():
    found = op([10.0, 20.0, 60.0])(np.ones((1, 5, 1, 1), np.float32))[0, :, 0, 0]
    inner = (10 * 1 + 20 * 2 + 60 * 1) / 4
    first = (20 * 2 + 10 * 1) / 3  # as the middle of its own window and the first of the next
    last = (20 * 2 + 60 * 1) / 3
    np.testing.assert_allclose(found, [first, inner, inner, inner, last], rtol=1e-6)


def test_blocks_equal_the_whole():
    volume = np.random.default_rng(0).random((1, 12, 3, 3), dtype=np.float32)
    windows = op([3.0, 1.0, 5.0, 2.0, 4.0])
    reach = windows.context[0]
    whole = windows(volume)
    for start in range(0, 12, 3):
        low, high = max(start - reach, 0), min(start + 3 + reach, 12)
        part = windows(volume[:, low:high])[:, start - low : start - low + 3]
        np.testing.assert_array_equal(part, whole[:, start : start + 3])
