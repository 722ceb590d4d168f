"""Move a sample through a geometry; the one place where a layer's kind decides how.

Laws: labels gain no values; masks keep 0, 1, 2 and no class of defect vanishes; a field that said where each voxel's counterpart
is still says so; a point stays on the voxels it marked. Where a geometry takes voxels to voxels nothing is interpolated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
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
    grid = geometry.pull(voxel_grid(geometry.target, sample.device))
    mover = _Mover(geometry, grid.expand(sample.batch, -1, -1, -1), cubic)
    return Sample({name: mover(name, layer) for name, layer in sample.items()})


class _Mover:
    """One geometry and its sampling grid ``(b, s, n, d)``, for all layers."""

    def __init__(self, geometry: Geometry, grid: Float[Tensor, "b s n d"], cubic: bool) -> None:
        self.geometry, self.grid, self.cubic, self.exact = geometry, grid, cubic, geometry.is_exact
        self.shared = geometry.num_sections == 1

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
        moved = self._interpolate(layer.tensor, self._grid(name, layer), "bicubic" if cubic else "bilinear")
        if not cubic:
            return moved
        axes = tuple(range(2, layer.tensor.ndim))
        return moved.clamp(layer.tensor.amin(axes, keepdim=True).clamp(max=0), layer.tensor.amax(axes, keepdim=True))

    def _nearest(self, name: str, layer: Layer) -> Tensor:
        moved = gather_voxels(layer.tensor, self._grid(name, layer))
        return moved.reshape(*layer.tensor.shape[:2], *self.geometry.target)

    def _mask(self, name: str, layer: Layer) -> Tensor:
        """Each class is spread to every voxel that it touches with any weight: ceil(bilinear) of ``mask >= class``.

        ceil(bilinear) of the mask itself would turn a one-voxel crack, moved by half a voxel, into a mere neighbourhood.
        """
        if self.exact:
            return self._nearest(name, layer)
        grid = self._grid(name, layer)
        moved = torch.zeros((), dtype=layer.tensor.dtype, device=layer.tensor.device)
        for value in (1, 2):
            share = self._interpolate((layer.tensor >= value).to(torch.float32), grid, "bilinear")
            moved = moved + (share > _NO_WEIGHT).to(layer.tensor.dtype)
        return moved

    def _field(self, name: str, layer: Layer) -> Tensor:
        """``pull_to(x + moved(x)) == pull_on(x) + field(pull_on(x))``, solved for ``moved``."""
        batch, ndim = layer.tensor.shape[0], len(self.geometry.source)
        num_fields = layer.tensor.shape[1] // ndim
        grid = self._grid(name, layer).expand(batch, num_fields, -1, -1)
        stacked = layer.tensor.reshape(batch * num_fields, ndim, *self.geometry.source)
        vectors = sample_voxels(stacked, grid.flatten(0, 1).unsqueeze(1))
        vectors = vectors.reshape(batch, num_fields, ndim, -1).transpose(-1, -2)
        ends = [0] if self.shared else targets_of(name, layer, self.geometry.num_sections)
        arrived = self.geometry.pick(ends).push(grid + vectors)
        moved = arrived - voxel_grid(self.geometry.target, grid.device)
        return moved.transpose(-1, -2).reshape(batch, num_fields * ndim, *self.geometry.target).to(layer.tensor.dtype)

    def _points(self, name: str, layer: Layer) -> Tensor:
        pushed = self.geometry.push(layer.tensor.unsqueeze(1))  # (b, s, n, d)
        if self.shared:
            return pushed.squeeze(1)
        sections = sections_of(name, layer, self.geometry.num_sections)
        return pushed[:, sections, list(range(len(sections)))]

    def _grid(self, name: str, layer: Layer) -> Float[Tensor, "b s n d"]:
        """Where the channels (or fields) of a layer look: one grid for all, or one for each."""
        if self.shared:
            return self.grid
        sections = sections_of(name, layer, self.geometry.num_sections)
        return self.grid if sections == list(range(self.geometry.num_sections)) else self.grid[:, sections]

    def _interpolate(
        self, tensor: Float[Tensor, "b c *space"], grid: Float[Tensor, "b s n d"], mode: str
    ) -> Float[Tensor, "b c *moved"]:
        """Values inside the frame, which reaches half a voxel beyond the outermost centres; 0 outside, with no fringe between."""
        moved = sample_voxels(tensor, grid, mode) * inside_of(grid, tuple(tensor.shape[2:])).to(tensor.dtype)
        return moved.reshape(*tensor.shape[:2], *self.geometry.target)


def sample_voxels(
    tensor: Float[Tensor, "b c *space"],
    grid: Float[Tensor, "b s n d"],
    mode: str = "bilinear",
) -> Float[Tensor, "b c n"]:
    """``tensor`` at coordinates ``grid``, which all channels share (s = 1) or of which each has its own (s = c).

    Outside, the values of the edge.
    """
    batch, channels, *space = tensor.shape
    ndim, own = len(space), grid.shape[1] != 1
    images = tensor.reshape(batch * channels, 1, *space) if own else tensor
    places = to_torch_grid(grid.flatten(0, 1), tuple(space))
    places = places.reshape(places.shape[0], *([1] * (ndim - 1)), -1, ndim)
    found = F.grid_sample(images.to(torch.float32), places, mode=mode, padding_mode="border", align_corners=False)
    return found.reshape(batch, channels, -1).to(tensor.dtype)


def gather_voxels(tensor: Shaped[Tensor, "b c *space"], grid: Float[Tensor, "b s n d"]) -> Shaped[Tensor, "b c n"]:
    """The nearest voxel of any dtype at coordinates ``grid``, 0 outside."""
    space = tensor.shape[2:]
    index = torch.zeros(grid.shape[:-1], dtype=torch.int64, device=grid.device)
    for axis, size in enumerate(space):
        index = index * size + (grid[..., axis] + 0.5).floor().to(torch.int64).clamp(0, size - 1)
    found = tensor.flatten(2).gather(2, index.expand(-1, tensor.shape[1], -1))
    return found * inside_of(grid, tuple(space)).to(found.dtype)


def inside_of(grid: Float[Tensor, "b s n d"], space: tuple[int, ...]) -> Bool[Tensor, "b s n"]:
    """Whether the nearest voxel of each place exists."""
    inside = torch.ones(grid.shape[:-1], dtype=torch.bool, device=grid.device)
    for axis, size in enumerate(space):
        inside &= (grid[..., axis] >= -0.5) & (grid[..., axis] < size - 0.5)
    return inside
