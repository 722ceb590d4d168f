"""Cracks and folds: artefacts of cutting that tear a section along a seam and move its halves.

Both change the specimen: image and truth move with the halves, ``masks`` gets 2 in the crack or on the fold and 1 around it, and
``valid`` becomes 0 where a pixel has no counterpart. The seam is a random walk along rows or columns; put a rotation after these
in the list to have it run in any direction.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lamella.data.augment.base import Augment, Counts, Levels, Probability, Span, happens, need_plane, num_sections
from lamella.data.augment.damage import edit, mark, need_floats, with_masks
from lamella.data.augment.shown import DARKEST
from lamella.data.geometry import Geometry, voxel_grid
from lamella.data.resample import move
from lamella.data.sample import Sample
from lamella.data.tear import Tear
from lamella.data.truth import hide

Fill = Literal["dark", "light", "noise"]


@dataclass(frozen=True)
class Seam:
    """A tear, and what it looks like. level, std: ``(b, s)``, grey value and grain of a crack, or the dimming of a fold (level)
    and the half-width of its dark band (std), pixels.
    """

    tear: Tear
    level: NDArray[np.float64]
    std: NDArray[np.float64]
    seed: int


class _Seam(Augment):
    """What cracks and folds have in common."""

    p: Probability = 0.25
    """Probability of one in a section."""
    width: Counts = (4, 31)
    """Pixels by which the halves move, together."""
    straight: Counts = (3, 10)
    """The seam steps aside at a pixel with a probability of one over this."""
    lean: Span = (-0.5, 0.5)
    """Pixels that the seam goes aside per pixel, on the whole."""
    near: int = Field(default=20, ge=0)
    """Pixels beside the damage that are marked 1."""

    def draw_tear(self, rng: np.random.Generator, sample: Sample, sign: int) -> Tear:
        """Seams through the middle three fifths of each section; opening 0 where there is none."""
        need_plane(sample, self.kind)
        shape = (sample.batch, num_sections(sample))
        width = rng.integers(*self.width, shape, endpoint=True) * happens(rng, self.p, shape)
        along_x, length = rng.random(shape) < 0.5, max(sample.space)
        rate = 1 / rng.uniform(*self.straight, (*shape, 1))
        steps = rng.choice((-1, 1), (*shape, length)) * (rng.random((*shape, length)) < rate)
        run = np.where(along_x, sample.space[0], sample.space[1])[..., None]
        extent = np.where(along_x, sample.space[1], sample.space[0])[..., None]
        middle = rng.uniform(0.2, 0.8, (*shape, 1)) * extent
        slope = rng.uniform(*self.lean, (*shape, 1)) * (np.arange(length) - run / 2)
        walk = np.cumsum(steps, -1)
        return Tear(
            np.rint(middle + slope + walk - walk.mean(-1, keepdims=True)).astype(np.int64), along_x, sign * width
        )

    def apply(self, sample: Sample, params: Seam) -> Sample:
        need_floats(sample)
        sample = with_masks(sample)
        tear, space = params.tear, sample.space
        if tear.is_identity:
            return sample
        moved = move(hide(sample, tear), Geometry((tear,), space, space))
        grid = voxel_grid(space, sample.device)
        shape = (sample.batch, num_sections(sample), *space)
        inside, reach = self._damage(tear, params, grid)
        moved = self._render(moved, inside.expand(*shape[:2], -1).reshape(shape), params)
        near = tear.near(grid, torch.as_tensor(reach + self.near).to(grid.device))
        return mark(moved, inside.expand(*shape[:2], -1).reshape(shape), near.expand(*shape[:2], -1).reshape(shape))

    @abstractmethod
    def _damage(self, tear: Tear, params: Seam, grid: Tensor) -> tuple[Bool[Tensor, "b s n"], NDArray[np.float64]]:
        """Where the damage is seen, and how far it reaches beyond gap or seam, ``(b, s)``."""

    @abstractmethod
    def _render(self, sample: Sample, inside: Bool[Tensor, "b s h w"], params: Seam) -> Sample:
        """The sample with the damage drawn in."""


class Crack(_Seam):
    """The section has torn: its halves are apart, and the gap is dark resin, bright background or noise."""

    kind: Literal["crack"] = "crack"
    fills: tuple[Fill, ...] = Field(default=("dark", "light", "noise"), min_length=1)
    """Looks, one drawn per crack."""
    dark: Levels = (0.01, 0.15)
    light: Levels = (0.85, 0.99)
    grain: float = Field(default=0.02, ge=0)
    """Standard deviation within dark and light gaps; that of noise is 0.25, around a grey of one half."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Seam:
        tear = self.draw_tear(rng, sample, 1)
        fill = rng.choice(np.array(self.fills), tear.opening.shape)
        looks = {"dark": rng.uniform(*self.dark, fill.shape), "light": rng.uniform(*self.light, fill.shape)}
        level = np.select([fill == name for name in looks], list(looks.values()), 0.5)
        return Seam(tear, level, np.where(fill == "noise", 0.25, self.grain), int(rng.integers(2**62)))

    def _damage(self, tear: Tear, params: Seam, grid: Tensor) -> tuple[Bool[Tensor, "b s n"], NDArray[np.float64]]:
        return tear.near(grid), np.zeros(tear.opening.shape)

    def _render(self, sample: Sample, inside: Bool[Tensor, "b s h w"], params: Seam) -> Sample:
        """Fill the gap where there was tissue, and take labels and weights out of it."""
        generator = torch.Generator(sample.device).manual_seed(params.seed)
        noise = torch.randn(inside.shape, generator=generator, device=sample.device)
        level, std = (torch.as_tensor(v)[..., None, None].to(noise) for v in (params.level, params.std))
        filling = (level + std * noise).clamp(DARKEST, 1)
        sample = edit(sample, "image", lambda image, s: torch.where(inside[:, s] & (image != 0), filling[:, s], image))
        for kind in ("label", "weight"):
            sample = edit(sample, kind, lambda values, s: values.masked_fill(inside[:, s], 0))
        return sample


class Fold(_Seam):
    """The section has doubled up: its halves overlap, tissue is hidden, and the seam is dark."""

    kind: Literal["fold"] = "fold"
    width: Counts = (8, 40)
    """Pixels of tissue hidden."""
    band: Counts = (3, 10)
    """Half-width of the dark band, pixels."""
    dim: Levels = (0.2, 0.5)
    """Intensity in the band over what it would be."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Seam:
        tear = self.draw_tear(rng, sample, -1)
        shape = tear.opening.shape
        band = rng.integers(*self.band, shape, endpoint=True).astype(np.float64)
        return Seam(tear, rng.uniform(*self.dim, shape), band, 0)

    def _damage(self, tear: Tear, params: Seam, grid: Tensor) -> tuple[Bool[Tensor, "b s n"], NDArray[np.float64]]:
        return tear.near(grid, torch.as_tensor(params.std).to(grid.device)), params.std

    def _render(self, sample: Sample, inside: Bool[Tensor, "b s h w"], params: Seam) -> Sample:
        dim = torch.as_tensor(params.level)[..., None, None].to(sample.device, torch.float32)
        factor = torch.where(inside, dim, 1)
        return edit(
            sample, "image", lambda image, s: torch.where(image == 0, image, (image * factor[:, s]).clamp_min(DARKEST))
        )
