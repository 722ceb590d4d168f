"""A net with weights set by hand, so that its maps follow the image, and images of round cells."""

import numpy as np
import torch
from scipy import ndimage

from lamella.infer import InferSettings
from lamella.nets.unet import UNetConfig
from lamella.ops.instances import Basins
from lamella.ops.intensity import Range
from lamella.tasks.segment.net import HEADS, SegmentNet
from lamella.tasks.segment.predictor import Segmenter


def mean_net(channels=1, ndim=2, **changes):
    """Objects are where the image's mean over a few pixels is above a half, and the distance follows it."""
    config = UNetConfig(ndim=ndim, features=1, growth=1, down=(2,), convs=1, norm="none", pooling="average", **changes)
    net = SegmentNet(config.build(channels, len(HEADS)), HEADS)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                module.weight.fill_(1 / module.weight[0].numel())
        net.net.head.conv.weight.copy_(torch.tensor([16.0, -16.0, 6.0]).reshape(3, 1, *(1,) * ndim))
        net.net.head.conv.bias.copy_(torch.tensor([-4.0, 2.0, -2.0]))
    return net


def segmenter(channels=1, ndim=2, **changes):
    """A segmenter around ``mean_net``; settings of the op as keywords beside its own fields."""
    op = {k: changes.pop(k) for k in ("flips", "overlap", "tile", "precision") if k in changes}
    fields = {
        "net": mean_net(channels * changes.get("slices", 1), ndim),
        "method": Basins(min_size=5, merge=0.9).build(),
        "normaliser": Range(high=(200.0,)),
        "settings": InferSettings(**{"precision": "float32", **op}),
        **changes,
    }
    return Segmenter(**fields)


def cells(*shape, seed=0):
    """Round cells, uint8, on a dark ground."""
    rng = np.random.default_rng(seed)
    points = np.zeros(shape, np.float32)
    count = max(3, int(np.prod(shape)) // (150 if len(shape) == 2 else 800))
    points[tuple(rng.integers(0, n, count) for n in shape)] = 1
    smooth = ndimage.gaussian_filter(points, 2.0)
    return np.clip(255 * smooth / max(smooth.max() * 0.5, 1e-9), 0, 255).astype(np.uint8)
