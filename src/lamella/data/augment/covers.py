"""Parts of sections that cannot be seen: edges cut off, and patches blacked out. The tissue stays where it is, and so does the
truth about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lamella.data.augment.base import Augment, Counts, Levels, Probability, happens, need_plane, num_sections
from lamella.data.augment.damage import edit, mark, need_floats, with_masks
from lamella.data.augment.shown import DARKEST
from lamella.data.sample import Sample


@dataclass(frozen=True)
class Strips:
    """Rows and columns that stay: ``first`` up to before ``last``, ``(b, s, 2)``, for y and x."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]


class Cut(Augment):
    """Images end before the patch does: on each axis a strip at one side is missing. Masks and truth are left alone."""

    kind: Literal["cut"] = "cut"
    p: Probability = 0.5
    shortest: int = Field(default=32, ge=0)
    """Width of the narrowest strip, pixels."""
    fraction: float = Field(default=1 / 3, ge=0, lt=1)
    """The widest strip over the size of the axis; where that is below ``shortest``, strips have this width."""
    per_section: bool = False
    """Cut each section differently instead of the stack."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Strips:
        need_plane(sample, self.kind)
        shape = (sample.batch, num_sections(sample) if self.per_section else 1, 2)
        size = np.array(sample.space, np.int64)
        widest = (size * self.fraction).astype(np.int64)
        width = rng.integers(np.minimum(self.shortest, widest), widest, shape, endpoint=True)
        width = width * happens(rng, self.p, shape[:2])[..., None]
        front = rng.random(shape) < 0.5
        return Strips(np.where(front, width, 0), size - np.where(front, 0, width))

    def apply(self, sample: Sample, params: Strips) -> Sample:
        kept = torch.ones((), dtype=torch.bool, device=sample.device)
        for axis, size in enumerate(sample.space):
            place = torch.arange(size, device=sample.device)
            first, last = (torch.as_tensor(v[..., axis, None]).to(sample.device) for v in (params.first, params.last))
            inside = (place >= first) & (place < last)
            kept = kept & inside.unsqueeze(-1 if axis == 0 else -2)
        shared = kept.shape[1] == 1
        return edit(sample, "image", lambda image, s: image * (kept if shared else kept[:, s]).to(image.dtype))


@dataclass(frozen=True)
class Patches:
    """count ``(b, s)``; low, high ``(b, s, k, 2)``, the box's corners, y and x; level ``(b, s, k)``."""

    count: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    level: NDArray[np.float64]


class Blackout(Augment):
    """Black patches, as dirt and shadows are. ``masks`` gets 2 there and 1 around it."""

    kind: Literal["blackout"] = "blackout"
    p: Probability = 0.25
    """Probability that a section has any."""
    most: int = Field(default=2, ge=1)
    side: Counts = (40, 120)
    """Sides, pixels; at most half of the section."""
    level: Levels = (DARKEST, 0.05)
    """Grey value; 0 would be missing data."""
    near: int = Field(default=20, ge=0)
    """Pixels beside the patch that are marked 1."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Patches:
        need_plane(sample, self.kind)
        shape = (sample.batch, num_sections(sample))
        size = np.array(sample.space, np.int64)
        count = rng.integers(1, self.most, shape, endpoint=True) * happens(rng, self.p, shape)
        least, widest = (np.minimum(n, size // 2) for n in self.side)
        side = rng.integers(least, widest, (*shape, self.most, 2), endpoint=True)
        low = rng.integers(0, size - side, endpoint=True)
        return Patches(count, low, low + side, rng.uniform(*self.level, (*shape, self.most)))

    def apply(self, sample: Sample, params: Patches) -> Sample:
        need_floats(sample)
        sample = with_masks(sample)
        shape = (*params.count.shape, *sample.space)
        covered = torch.full(shape, -1.0, device=sample.device)  # not covered
        near = torch.zeros(shape, dtype=torch.bool, device=sample.device)
        for index in np.argwhere(np.arange(params.level.shape[-1]) < params.count[..., None]):
            b, s, k = (int(i) for i in index)
            (y0, x0), (y1, x1) = params.low[b, s, k].tolist(), params.high[b, s, k].tolist()
            covered[b, s, y0:y1, x0:x1] = float(params.level[b, s, k])
            near[b, s, max(y0 - self.near, 0) : y1 + self.near, max(x0 - self.near, 0) : x1 + self.near] = True
        inside = covered >= 0
        sample = edit(sample, "image", lambda image, s: torch.where(inside[:, s] & (image != 0), covered[:, s], image))
        return mark(sample, inside, near)
