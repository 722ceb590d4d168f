"""Geometry: maps between the voxels of a sample before and after it is moved.

Coordinates are voxels in axes order ``z y x`` or ``y x``, held component by component, ``(b, s, d, n)`` for n places; a map is ``(b, s, ...)``: one per sample and section, or with ``s = 1``
one that all channels of a sample share. Maps pull: output voxel x shows the input at ``pull(x)``. Links stand in the order in
which they happen to the sample, so ``pull`` runs through them backwards, and ``push``, its inverse, forwards:

```
        first link      last link
input <------------ . <------------ output        pull: where to look
input ------------> . ------------> output        push: where a point goes
```

Laws: ``push(pull(x)) == x``; ``a.then(b).pull(x) == a.pull(b.pull(x))``; a chain of links is resampled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.links import Affine, Bend, times
from lamella.data.tear import Tear

Link = Affine | Bend | Tear


@dataclass(frozen=True, eq=False)
class Geometry:
    """Links that take a sample of space ``source`` to space ``target``."""

    links: tuple[Link, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]

    def then(self, later: Geometry) -> Geometry:
        """Both in one, so that the sample is resampled once."""
        assert self.target == later.source, (self.target, later.source)
        return Geometry(_merge((*self.links, *later.links)), self.source, later.target)

    @property
    def is_exact(self) -> bool:
        """Whether each output voxel is one input voxel, or lies outside, so that nothing is interpolated."""
        return all(link.is_exact for link in self.links)

    @property
    def is_identity(self) -> bool:
        return self.source == self.target and all(link.is_identity for link in self.links)

    @property
    def num_sections(self) -> int:
        """1 where the geometry is shared by all channels."""
        return max((link.num_sections for link in self.links), default=1)

    def pull(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        """Input coordinates of output coordinates ``x``."""
        return reduce(lambda y, link: link.pull(y), reversed(self.links), x)

    def push(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        """Output coordinates of input coordinates ``x``."""
        return reduce(lambda y, link: link.push(y), self.links, x)

    def pick(self, sections: Sequence[int]) -> Geometry:
        """The geometry of these sections, in this order; a shared one stays shared."""
        return Geometry(tuple(link.pick(sections) for link in self.links), self.source, self.target)


def affine(
    matrix: NDArray[np.floating],
    space: tuple[int, ...],
    shift: NDArray[np.number] | float = 0.0,
) -> Geometry:
    """``matrix`` ``(b, s, d, d)`` about the centre of ``space``, after which the content is shifted by ``shift`` ``(b, s, d)``.

    The matrix pulls: its inverse is what happens to the content.
    """
    centre = (np.array(space) - 1) / 2
    matrix = np.asarray(matrix, np.float64)
    offset = centre - times(matrix, np.broadcast_to(centre + shift, matrix.shape[:-1]))
    return Geometry((Affine(matrix, offset),), space, space)


def identity_matrix(batch: int, sections: int, ndim: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.eye(ndim), (batch, sections, ndim, ndim)).copy()


def voxel_grid(space: tuple[int, ...], device: torch.device) -> Float[Tensor, "1 1 d n"]:
    """Coordinates of all voxels of ``space`` in C order."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in space]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(1, 1, len(space), -1)


def _merge(links: tuple[Link, ...]) -> tuple[Link, ...]:
    merged: list[Link] = []
    for link in links:
        if merged and isinstance(link, Affine) and isinstance(merged[-1], Affine):
            merged[-1] = merged[-1].then(link)
        else:
            merged.append(link)
    return tuple(merged)
