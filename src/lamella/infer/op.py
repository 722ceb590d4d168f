"""A trained net as an ``Op``: raw intensities in, probabilities (or other maps) out, for images of any size.

```
|m|------- image -------|m|pp|     mirrored: m what the training showed beyond edges, pp up to a multiple of the stride
```

The image is scaled as in training and mirrored at its ends until its size suits the net; the result is cut back. Mirrored ends of
a block inside a larger image are wrong, but no farther than ``context``, which is cut off.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamella.blockwise.blocks import Block, cover
from lamella.core.box import Box
from lamella.infer.settings import InferSettings
from lamella.nets.blocks import cropped, fuse, lower
from lamella.nets.memory import channels_last

Scaling = Callable[[NDArray[Any]], NDArray[np.float32]]
View = tuple[tuple[int, ...], bool]  # axes to mirror, whether y and x change places

_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class NetOp:
    """Applies ``net`` to images (c, *space) of any size and gives maps (k, *space), float32.

    ``scaling`` brings raw intensities to what the net was trained on, ``finish`` its raw outputs to maps, and ``mirror`` is the
    width of mirrored surroundings that training showed. The net itself is left as it is: a copy is brought to the device, with
    norms put into the weights, when it is first needed. Picklable; safe to call from several threads.
    """

    def __init__(
        self,
        net: nn.Module,
        scaling: Scaling,
        finish: Callable[[Tensor], Tensor] = torch.sigmoid,
        *,
        mirror: int = 0,
        settings: InferSettings | None = None,
        device: str = "cpu",
    ) -> None:
        self.net, self.scaling, self.finish = net, scaling, finish
        self.settings, self.device = settings or InferSettings(), device
        known: Any = net
        self.stride: tuple[int, ...] = tuple(known.stride)
        self.context: tuple[int, ...] = _rounded(known.context, self.stride)
        self.margin: tuple[int, ...] = tuple(known.margin)
        self.mirror = _rounded((mirror,) * len(self.stride), self.stride)
        self.seamless: bool = known.seamless
        self._ready: nn.Module | None = None
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "_lock"}
        return {**state, "net": copy.deepcopy(self.net).to("cpu"), "_ready": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    def with_settings(self, settings: InferSettings) -> NetOp:
        """The same op, applied in another way."""
        return NetOp(self.net, self.scaling, self.finish, mirror=self.mirror[-1], settings=settings, device=self.device)

    def identity(self) -> dict[str, Any]:
        """Plain values that are equal for two ops that give the same maps, and only then."""
        return {
            "weights": weights_digest(self.net),
            "scaling": repr(self.scaling),
            "mirror": list(self.mirror),
            "settings": self.settings.to_dict(),
            "dtype": str(self.dtype),
        }

    @property
    def dtype(self) -> torch.dtype:
        """The numbers that the net computes with."""
        return self.settings.dtype(self.device)

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        return self.many(patch[None])[0]

    @torch.inference_mode()
    def many(self, patches: NDArray[Any]) -> NDArray[np.float32]:
        """Several patches of one size, (b, c, *space) to (b, k, *space)."""
        net = self._prepared()
        x = np.stack([self.scaling(patch) for patch in patches])
        lack = [-n % s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        before = [a + b for a, b in zip(self.mirror, self.margin, strict=True)]
        width = [(0, 0), (0, 0), *((b, b + n) for b, n in zip(before, lack, strict=True))]
        maps = self._averaged(net, _mirrored(x, width))
        return cropped(maps, self.mirror, x.shape[2:]).numpy()

    def _averaged(self, net: nn.Module, x: NDArray[np.float32]) -> Tensor:
        """Maps of the padded ``x``, less the margin: the mean over its turned copies."""
        image = torch.from_numpy(x).to(self.device)
        views = list(self._views(image.shape))
        total: Tensor | None = None
        for view in views:
            maps = _turned_back(self._tiled(net, _turned(image, view)), view)
            total = maps if total is None else total + maps
        assert total is not None
        return (total if len(views) == 1 else total / len(views)).float().cpu()

    def _views(self, shape: torch.Size) -> Iterator[View]:
        axes = range(2, len(shape)) if self.settings.flips else ()
        square = self.stride[-1] == self.stride[-2] and self.margin[-1] == self.margin[-2]
        for chosen in product((False, True), repeat=len(axes)):
            flips = tuple(a for a, on in zip(axes, chosen, strict=True) if on)
            yield flips, False
            if self.settings.rotations and square:
                yield flips, True

    def _tiled(self, net: nn.Module, x: Tensor) -> Tensor:
        """Maps of the padded ``x``, tile by tile if it is larger than one."""
        space = tuple(n - 2 * m for n, m in zip(x.shape[2:], self.margin, strict=True))
        tile = self.settings.tile
        if tile is None or max(space) <= tile:
            return self._finished(net, x)
        halo = tuple(0 if m else c for m, c in zip(self.margin, self.context, strict=True))
        size = tuple(max(tile // s, 1) * s for s in self.stride)
        whole = Box.of(space)
        result: Tensor | None = None
        for blocks in _batches(cover(whole, size, halo, bounds=whole), self.settings.batch):
            reads = [b.read.grow(self.margin).shift(self.margin) for b in blocks]
            maps = self._finished(net, torch.cat([cropped(x, read.start, read.shape) for read in reads]))
            result = x.new_empty((x.shape[0], maps.shape[1], *space), dtype=maps.dtype) if result is None else result
            for block, part in zip(blocks, maps.split(x.shape[0]), strict=True):
                inside = block.write.shift([-a for a in block.read.start])
                cropped(result, block.write.start, block.write.shape).copy_(cropped(part, inside.start, inside.shape))
        assert result is not None
        return result

    def _finished(self, net: nn.Module, x: Tensor) -> Tensor:
        x = x.to(self.dtype).contiguous(memory_format=_LAST[len(self.stride)])
        return self.finish(net(x).float())

    def _prepared(self) -> nn.Module:
        with self._lock:
            if self._ready is None:
                self._ready = channels_last(lower(fuse(copy.deepcopy(self.net).eval()), self.dtype).to(self.device))
            return self._ready


def weights_digest(net: nn.Module) -> str:
    """A fingerprint of a net's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _rounded(sizes: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // s) * s for n, s in zip(sizes, stride, strict=True))


def _mirrored(x: NDArray[np.float32], width: list[tuple[int, int]]) -> NDArray[np.float32]:
    """``x`` continued by its mirror image, as often as it takes; an axis of one voxel is repeated."""
    if not any(a or b for a, b in width):
        return x
    single = [w if n == 1 else (0, 0) for w, n in zip(width, x.shape, strict=True)]
    others = [(0, 0) if n == 1 else w for w, n in zip(width, x.shape, strict=True)]
    return np.pad(np.pad(x, others, mode="reflect"), single, mode="edge")


def _turned(x: Tensor, view: View) -> Tensor:
    flips, swapped = view
    return (x.transpose(-1, -2) if swapped else x).flip(flips)


def _turned_back(x: Tensor, view: View) -> Tensor:
    flips, swapped = view
    x = x.flip(flips)
    return x.transpose(-1, -2) if swapped else x


def _batches(blocks: Any, size: int) -> Iterator[list[Block]]:
    """Blocks of one read shape, up to ``size`` together, in order of the shape."""
    by_shape: dict[tuple[int, ...], list[Block]] = {}
    for block in blocks:
        by_shape.setdefault(block.read.shape, []).append(block)
    for group in by_shape.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
