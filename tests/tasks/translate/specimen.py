"""Translators around nets whose answer is known, and small experiments for them."""

import imageio.v3 as iio
import numpy as np
import torch

from lamella.data.frames import Measured
from lamella.infer import InferSettings
from lamella.io.preprocessing import Group, Preprocessing, Statistics
from lamella.nets.stack_unet import StackUNetConfig
from lamella.nets.unet import UNetConfig
from lamella.tasks.translate.net import TranslateNet
from lamella.tasks.translate.translator import Translator

CENTRE, SPREAD = 1000.0, 200.0  # of the input
TARGETS = {1: (5000.0, 400.0), 3: (90.0, 8.0)}  # centre and spread of the targets by their numbers
UNITS = ((-1.0, 4.0), (-2.0, 6.0))  # what became 0 and 1 of each


def random_net(inputs=1, targets=2, ndim=2, seed=0, **changes):
    """A small U-Net with random weights."""
    torch.manual_seed(seed)
    config = UNetConfig(ndim=ndim, **{"features": (4, 6), "down": (2,), "norm": "none", "convs": 1, **changes})
    return TranslateNet(config.build(inputs, targets), "none").eval()


def window_net(depth, output, targets=2, seed=0):
    """A small 2.5D net with random weights."""
    torch.manual_seed(seed)
    config = StackUNetConfig(features=(3, 4), down=(2,), norm="none", convs=1, output=output)
    return TranslateNet(config.build(1, targets, depth), "none").eval()


def middle_net(depth=1, targets=2):
    """Gives the middle slice of its window for every target, cut at 0."""
    config = UNetConfig(features=(1,), down=(), convs=1, kernel=1, norm="none")
    net = TranslateNet(config.build(depth, targets), "none").eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.fill_(0.0 if "bias" in name else 1.0)
        first = next(p for n, p in net.named_parameters() if p.ndim == 4)
        first.zero_()
        first[:, depth // 2] = 1.0
    return net


def preprocessing(level="dataset", **changes):
    """Statistics of input channel 0 and of the targets."""
    groups = [Group(channel=0, centre=CENTRE, spread=SPREAD)]
    groups += [Group(channel=c, centre=a, spread=b) for c, (a, b) in TARGETS.items()]
    return Preprocessing(statistics=Statistics(level=level, source="trained", groups=tuple(groups)), **changes)


def translator(net=None, depth=1, dtype="uint16", segments=False, measures=None, **op):
    """A translator of input 0 to the targets 1 and 3; settings of the op as keywords."""
    measured = Measured(
        numbers=tuple(TARGETS), names=("DAPI", "MAP2"), units=None if segments else UNITS, inputs=(0,), dtype=dtype
    )
    return Translator(
        net=net or random_net(depth),
        preprocessing=measures or preprocessing(),
        inputs=(0,),
        measured=measured,
        depth=depth,
        segments=segments,
        settings=InferSettings(**{"precision": "float32", **op}),
    )


def scene(shape, seed=0):
    """Phase-like intensities, uint16."""
    rng = np.random.default_rng(seed)
    waves = sum(
        np.sin(np.arange(n) / (3 + k) + seed).reshape([-1 if a == k else 1 for a in range(len(shape))])
        for k, n in enumerate(shape)
    )
    return np.clip(CENTRE + SPREAD * (0.8 * waves + 0.3 * rng.standard_normal(shape)), 0, 65535).astype(np.uint16)


def frames(folder, positions=(0, 1), slices=range(4), size=(37, 53), channel=0, suffix=".png"):
    """A folder of frames of the input alone: there is no target."""
    folder.mkdir(parents=True, exist_ok=True)
    for p in positions:
        stack = scene((max(slices) + 1, *size), seed=p)
        for z in slices:
            iio.imwrite(folder / f"im_c{channel:03d}_z{z:03d}_t000_p{p:03d}{suffix}", stack[z])
    return folder
