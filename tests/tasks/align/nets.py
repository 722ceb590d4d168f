"""Nets whose answers are known, without training."""

from __future__ import annotations

import torch
from torch import nn

from lamella.nets.aligner import Aligner, AlignerConfig, SiamesePyramid
from lamella.ops.normalise import Normaliser, Plain
from lamella.tasks.align.estimate import Estimator

_SURE = 0.95  # cosine above which two encodings are of the same place


def untrained(skip: int = 0, strength: float = 20.0) -> SiamesePyramid:
    """A net that has learnt nothing but moves things by a pixel or so, differently everywhere."""
    torch.manual_seed(0)
    config = {"levels": 3, "skip": skip, "features": 4, "features_step": 0, "channels": (4,), "kernel": 3}
    net = AlignerConfig.load({**config, "correlation": 0, "norm": "none"}).build().eval()
    with torch.no_grad():
        for aligner in net.aligners.values():
            last(aligner).weight.mul_(strength)
    return net


def constant(dy: float, dx: float, skip: int = 0) -> SiamesePyramid:
    """A net that always answers (dy, dx), in pixels of its finest level."""
    net = untrained(skip)
    with torch.no_grad():
        for aligner in net.aligners.values():
            last(aligner).weight.zero_()
        last(net.aligners[str(skip)]).bias.copy_(torch.tensor([dy, dx]))
    return net


def matcher(reach: int = 3) -> SiamesePyramid:
    """A net that finds shifts of whole pixels up to ``reach`` exactly: of all offsets it answers the one whose correlation is 1.

    The encodings are random projections of 5 × 5 patches. Of the aligner's hidden maps, two per offset hold how far the correlation
    lies above and below ``_SURE``; together they undo the leak of the rectifier, so that offsets below it count for nothing.
    """
    torch.manual_seed(0)
    num = (2 * reach + 1) ** 2
    config = {"levels": 1, "skip": 0, "features": 24, "channels": (2 * num,), "kernel": 1, "correlation": reach}
    net = AlignerConfig.load({**config, "norm": "batch"}).build().eval()
    encoder, aligner = net.encoders["0"], net.aligners["0"]
    first, leak = aligner.layers[0], aligner.layers[1].negative_slope
    offsets = torch.cartesian_prod(*[torch.arange(-reach, reach + 1.0)] * 2)
    with torch.no_grad():
        for layer in encoder.layers:
            if isinstance(layer, nn.Conv2d):
                layer.bias.zero_()
        first.weight.zero_()
        for i in range(num):
            for half, sign in ((0, 1.0), (num, -1.0)):
                first.weight[half + i, 48 + i] = sign
                first.bias[half + i] = -sign * _SURE
        above = offsets.T / (1 - _SURE) / (1 - leak**2)
        last(aligner).weight[:, :, 0, 0] = torch.cat([above, leak * above], 1)
    return net


def last(aligner: Aligner) -> nn.Conv2d:
    """The convolution that gives the field."""
    layer = aligner.layers[-1]
    assert isinstance(layer, nn.Conv2d)
    return layer


def estimator(net: SiamesePyramid, normalise: Normaliser | None = None, **settings: bool | int) -> Estimator:
    """An estimator that gives the net's own answer, unless ``settings`` say otherwise."""
    return Estimator(net, normalise or Plain().build(), **{"flip": False, "symmetric": False, **settings})
