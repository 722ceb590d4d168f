"""Move a sample through a geometry; the one place where a layer's kind decides how.

Laws: labels gain no values; masks keep 0, 1, 2 and no class of defect vanishes; a field that said where each voxel's counterpart
is still says so; a point stays on the voxels it marked. Where a geometry takes voxels to voxels nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.geometry import Geometry, voxel_grid
from lamella.data.links import to_torch_grid
from lamella.data.sample import Layer, Sample, sections_of, targets_of

# Interpolation weights below this are rounding of coordinates; without it an unmoved mask would grow by a voxel.
_NO_WEIGHT = 1e-3


def move(sample: Sample, geometry: Geometry, *, cubic: bool = False) -> Sample:
    """``sample`` as ``geometry`` shows it; the input is left as it was, and returned itself where nothing moves.

    cubic: bicubic instead of bilinear images (2D only), kept within the range of each input channel.
    """
    if geometry.is_identity:
        return sample
    if cubic and sample.ndim != 2:
        raise UserError("cubic interpolation works in 2D, these samples are 3D; leave cubic off")
    mover = _Mover(geometry, sample.batch, sample.device, cubic)
    return Sample({name: mover(name, layer) for name, layer in sample.items()})


@dataclass(frozen=True, eq=False)
class _Look:
    """Where channels look, ``grid`` ``(b, s, d, n)``, with what all of them need to know about it."""

    grid: Float[Tensor, "b s d n"]
    space: tuple[int, ...]

    @cached_property
    def inside(self) -> Bool[Tensor, "b s n"]:
        """Whether the nearest voxel of each place exists."""
        inside = torch.ones((), dtype=torch.bool, device=self.grid.device)
        for axis, size in enumerate(self.space):
            place = self.grid[:, :, axis]
            inside = inside & (place >= -0.5) & (place < size - 0.5)
        return inside

    @cached_property
    def places(self) -> Float[Tensor, "bs *one n d"]:
        return to_torch_grid(self.grid, self.space)

    @cached_property
    def index(self) -> Int64[Tensor, "b s n"]:
        """The nearest voxel of each place, in C order; the nearest that exists outside."""
        index = torch.zeros((), dtype=torch.int64, device=self.grid.device)
        for axis, size in enumerate(self.space):
            index = index * size + (self.grid[:, :, axis] + 0.5).floor().clamp(0, size - 1).to(torch.int64)
        return index

    def nearest(self, tensor: Shaped[Tensor, "b c *space"]) -> Shaped[Tensor, "b c n"]:
        """The nearest voxel of any dtype, 0 outside."""
        found = tensor.flatten(2).gather(2, self.index.expand(-1, tensor.shape[1], -1))
        return found * self.inside.to(found.dtype)

    def interpolated(self, tensor: Float[Tensor, "b c *space"], mode: str = "bilinear") -> Float[Tensor, "b c n"]:
        """Values between voxels; outside, those of the edge."""
        batch, channels, *space = tensor.shape
        own = self.grid.shape[1] != 1
        images = tensor.reshape(batch * channels, 1, *space) if own else tensor
        found = F.grid_sample(
            images.to(torch.float32), self.places, mode=mode, padding_mode="border", align_corners=False
        )
        return found.reshape(batch, channels, -1).to(tensor.dtype)


class _Mover:
    """One geometry at work on all layers of a sample."""

    def __init__(self, geometry: Geometry, batch: int, device: torch.device, cubic: bool) -> None:
        self.geometry, self.cubic, self.exact = geometry, cubic, geometry.is_exact
        self.shared = geometry.num_sections == 1
        grid = geometry.pull(voxel_grid(geometry.target, device)).expand(batch, -1, -1, -1)
        self._all = _Look(grid, geometry.source)

    def __call__(self, name: str, layer: Layer) -> Layer:
        act = {"label": self._nearest, "mask": self._mask, "field": self._field, "points": self._points}
        return layer.with_tensor(act.get(layer.kind, self._smooth)(name, layer))

    def _smooth(self, name: str, layer: Layer) -> Tensor:
        if self.exact:
            return self._nearest(name, layer)
        if not layer.tensor.is_floating_point():
            raise UserError(
                f"layer {name!r} ({layer.kind}) is {layer.tensor.dtype} and cannot be interpolated; make it float32 first"
            )
        cubic = self.cubic and layer.kind == "image"
        moved = self._interpolate(layer.tensor, self._look(name, layer), "bicubic" if cubic else "bilinear")
        if not cubic:
            return moved
        axes = tuple(range(2, layer.tensor.ndim))
        return moved.clamp(layer.tensor.amin(axes, keepdim=True).clamp(max=0), layer.tensor.amax(axes, keepdim=True))

    def _nearest(self, name: str, layer: Layer) -> Tensor:
        moved = self._look(name, layer).nearest(layer.tensor)
        return moved.reshape(*layer.tensor.shape[:2], *self.geometry.target)

    def _mask(self, name: str, layer: Layer) -> Tensor:
        """Each class is spread to every voxel that it touches with any weight: ceil(bilinear) of ``mask >= class``.

        ceil(bilinear) of the mask itself would turn a one-voxel crack, moved by half a voxel, into a mere neighbourhood.
        """
        if self.exact:
            return self._nearest(name, layer)
        look = self._look(name, layer)
        moved = torch.zeros((), dtype=layer.tensor.dtype, device=layer.tensor.device)
        for value in (1, 2):
            share = self._interpolate((layer.tensor >= value).to(torch.float32), look, "bilinear")
            moved = moved + (share > _NO_WEIGHT).to(layer.tensor.dtype)
        return moved

    def _field(self, name: str, layer: Layer) -> Tensor:
        """``pull_to(x + moved(x)) == pull_on(x) + field(pull_on(x))``, solved for ``moved``."""
        batch, ndim = layer.tensor.shape[0], len(self.geometry.source)
        num_fields = layer.tensor.shape[1] // ndim
        grid = self._look(name, layer).grid.expand(batch, num_fields, -1, -1)
        stacked = layer.tensor.reshape(batch * num_fields, ndim, *self.geometry.source)
        vectors = _Look(grid.flatten(0, 1).unsqueeze(1), self.geometry.source).interpolated(stacked)
        ends = [0] if self.shared else targets_of(name, layer, self.geometry.num_sections)
        arrived = self.geometry.pick(ends).push(grid + vectors.reshape(grid.shape))
        moved = arrived - voxel_grid(self.geometry.target, grid.device)
        return moved.reshape(batch, num_fields * ndim, *self.geometry.target).to(layer.tensor.dtype)

    def _points(self, name: str, layer: Layer) -> Tensor:
        pushed = self.geometry.push(layer.tensor.unsqueeze(1).transpose(-1, -2)).transpose(-1, -2)  # (b, s, n, d)
        if self.shared:
            return pushed.squeeze(1)
        sections = sections_of(name, layer, self.geometry.num_sections)
        return pushed[:, sections, list(range(len(sections)))]

    def _look(self, name: str, layer: Layer) -> _Look:
        """Where the channels (or fields) of a layer look: the same place, or each where its section does."""
        if self.shared:
            return self._all
        sections = sections_of(name, layer, self.geometry.num_sections)
        if sections == list(range(self.geometry.num_sections)):
            return self._all
        return _Look(self._all.grid[:, sections], self.geometry.source)

    def _interpolate(self, tensor: Float[Tensor, "b c *space"], look: _Look, mode: str) -> Float[Tensor, "b c *moved"]:
        """Values inside the frame, which reaches half a voxel beyond the outermost centres; 0 outside, with no fringe between."""
        moved = look.interpolated(tensor, mode) * look.inside.to(tensor.dtype)
        return moved.reshape(*tensor.shape[:2], *self.geometry.target)
