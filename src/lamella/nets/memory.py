"""How weights lie in memory: channels last is what processors convolve fastest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a convolution's weights


def channels_last(net: M) -> M:
    """``net`` itself, with channels last in the weights of its convolutions, 2D and 3D in one net if it has both."""
    for weight in net.parameters():
        if weight.ndim in _LAST:
            weight.data = weight.data.contiguous(memory_format=_LAST[weight.ndim])
    return net
