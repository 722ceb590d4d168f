"""Training and prediction beside a plain MONAI loop of equal parameter count, on one thread, in one run.

    pip install monai --no-deps
    python benchmarks/segment_speed.py

Both nets predict three maps of single-channel images. ``training`` is forward, cross entropy, backward and an Adam step on patches of
128 x 128 in batches of 8; ``prediction`` is one image of 1024 x 1024. Times are CPU seconds of the process, so a busy machine changes
them little. Ours are the default net of the segment task, at full resolution (``fold 1``) too, as its loops run them.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lamella.core.memory import keep_freed_memory
from lamella.nets.blocks import fuse, lower
from lamella.nets.unet import UNetConfig

_PATCH, _BATCH, _IMAGE = 128, 8, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    from monai.networks.nets import UNet

    monai = UNet(2, 1, 3, (32, 64, 128, 256), (2, 2, 2), num_res_units=2)
    size = parameters(monai)
    print(f"{'net':34} {'parameters':>11} {'training patches/CPU s':>23} {'prediction Mpx/CPU s':>21}")
    show("MONAI U-Net, plain loop", monai, args.steps, torch.float32, plain=True)
    for fold in (1, 2):
        shape = {"down": (2, 2, 2), "fold": fold, "residual": True, "skip": "add"}
        net = equal(size, shape)
        for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
            show(f"ours, fold {fold}, {name}", net, args.steps, dtype, plain=False)


def equal(size: int, shape: dict[str, object]) -> nn.Module:
    """Our net with as many parameters as ``size``, or a few more."""
    for features in range(8, 128, 2):
        net = UNetConfig.load({"features": features, **shape}).build(1, 3)
        if parameters(net) >= size:
            return net
    raise ValueError(f"no net has {size} parameters")


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def show(name: str, net: nn.Module, steps: int, dtype: torch.dtype, *, plain: bool) -> None:
    patches = training(net, steps, dtype, plain=plain)
    pixels = prediction(net, dtype, plain=plain)
    print(f"{name:34} {parameters(net):11} {patches:23.1f} {pixels:21.2f}", flush=True)


def training(net: nn.Module, steps: int, dtype: torch.dtype, *, plain: bool) -> float:
    """Patches per CPU second."""
    layout = torch.contiguous_format if plain else torch.channels_last
    net = net.train().to(memory_format=layout)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), 1e-3, fused=not plain)
    image = torch.rand(_BATCH, 1, _PATCH, _PATCH).contiguous(memory_format=layout)
    target = (torch.rand(_BATCH, 3, _PATCH, _PATCH) > 0.5).float()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits: Tensor = net(image)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return _BATCH / seconds(step, steps)


def prediction(net: nn.Module, dtype: torch.dtype, *, plain: bool) -> float:
    """Megapixels per CPU second."""
    image = torch.rand(1, 1, _IMAGE, _IMAGE)
    net = net.eval()
    if not plain:
        net = lower(fuse(copy.deepcopy(net)), dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.to(dtype)

    def run() -> None:
        with torch.inference_mode():
            torch.sigmoid(net(image).float())

    return _IMAGE**2 / 1e6 / seconds(run, 2)


def seconds(work: Callable[[], None], times: int) -> float:
    """CPU seconds of one call, after one that does not count."""
    work()
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


if __name__ == "__main__":
    main()
