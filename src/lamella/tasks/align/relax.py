"""Joint relaxation of the fields of a stack: every section between all its neighbours at once.

The fields u of sections meet in *links*. A link from section z to z' was measured where z' was seen through a reference field (zero:
as it is), and says, at place q of that picture, by how much further z is displaced than z':

    u_z(p) - u_z'(p) = d(q),    q = p + u_z'(p) - reference_z'(p)

So for sections as they are, d is the field that aligns z to z', and this is ``ops.field.compose``. What is minimised is

    sum over links of  w(q) · rho(|u_z(p) - u_z'(p) - d(q)|)  +  springs · sum over sections of  smoothness(u_z)

with rho that of Geman and McClure, under which links that the others contradict lose their say. It is solved by repeated weighted
least squares. With d and w held where u now looks, the unknowns of one column of pixels along z form a band matrix, which is solved
directly, so that corrections travel along the whole stack at once; springs between columns are relaxed by sweeps, from coarse grids
to the finest (line relaxation; Trottenberg et al., *Multigrid*, 2001, 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.field import coarser, finer, warp
from lamella.tasks.align.bands import Bands, factored, solved

Stack = Float[Tensor, "z 2 h w"]
Maps = Float[Tensor, "z 1 h w"]
Penalty = Literal["jacob", "rigidity"]

_DAMPING = 0.8  # of sweeps; below 1, since alternating patterns would never settle where nothing but springs holds
_TIE = 1e-4  # weight by which a section is tied to where it was, so that one without links stays there
_ANNEALED = (8.0, 4.0, 2.0)  # widths of rho on the way to the one asked for, so that a bad start does not decide
_NEIGHBOURS = {"jacob": ((1, 0), (0, 1)), "rigidity": ((1, 0), (0, 1), (1, 1), (1, -1))}


@dataclass(frozen=True)
class Links:
    """Links between sections: ``source[i]`` and ``target[i]`` number the sections of link i in the stack.

    ``steps`` (n, 2, h', w') are the d and ``weights`` (n, 1, h', w') the w of all links; ``corner`` (n, 2) says where in the stack's
    plane their pixel (0, 0) lies.
    """

    source: list[int]
    target: list[int]
    steps: Float[Tensor, "n 2 hs ws"]
    weights: Float[Tensor, "n 1 hs ws"]
    corner: Float[Tensor, "n 2"]

    def seen(self, stack: Stack, reference: Stack) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 1 h w"]]:
        """The d and w of all links where ``stack`` looks; beyond their edges d goes on and w is 0."""
        where = (stack - reference)[self.target] - self.corner[:, :, None, None]
        return warp(self.steps, where, padding="border"), warp(self.weights, where)

    def coarser(self) -> Links:
        """The same on a grid of half the pixels along each axis. Corners must be even."""
        mass = F.avg_pool2d(self.weights, 2, ceil_mode=True, count_include_pad=False)
        mean = F.avg_pool2d(self.weights * self.steps, 2, ceil_mode=True, count_include_pad=False)
        steps = torch.where(mass > 1e-6, 0.5 * mean / mass.clamp_min(1e-6), coarser(self.steps))
        return replace(self, steps=steps, weights=mass, corner=self.corner / 2)


@dataclass(frozen=True)
class Relaxation:
    """How links and springs are weighed.

    ``width`` is the distance, in pixels of the fields, beyond which a link is given up; ``springs`` the weight of smoothness beside
    links of weight 1; ``jacob`` wants neighbouring pixels to have one displacement, ``rigidity`` to keep their distance, also to
    diagonal neighbours, so that tissue may turn (see ``ops.smoothness``). ``levels`` is the number of grids, ``updates`` how often links
    are weighed anew on each, ``sweeps`` those of the springs in each update.
    """

    width: float
    springs: float
    penalty: Penalty = "jacob"
    levels: int = 3
    updates: int = 6
    sweeps: int = 6

    def __call__(
        self, stack: Stack, links: Links, reference: Stack, fixed: list[int], whole: Maps | None = None
    ) -> Stack:
        """The relaxed fields, from ``stack`` on. Sections in ``fixed`` stay; ``whole`` is 0 where tissue is torn, so that no spring
        leads across."""
        whole = torch.ones_like(stack[:, :1]) if whole is None else whole
        if self.levels > 1 and min(stack.shape[-2:]) >= 8:
            below = replace(self, levels=self.levels - 1, width=self.width / 2, springs=self.springs / 4)
            start = coarser(stack)
            torn = F.max_pool2d(1 - whole, 2, ceil_mode=True)
            found = below(start, links.coarser(), coarser(reference), fixed, 1 - torn)
            stack = stack + finer(found - start, (stack.shape[-2], stack.shape[-1]))
        springs = Springs.between(whole, self.springs, self.penalty)
        widths = [*(self.width * a for a in _ANNEALED), *[self.width] * self.updates][: max(self.updates, 4)]
        for width in widths:
            stack = self._updated(stack, links, links.seen(stack, reference), fixed, springs, width)
        return stack

    def _updated(
        self, stack: Stack, links: Links, seen: tuple[Tensor, Tensor], fixed: list[int], springs: Springs, width: float
    ) -> Stack:
        """One step of repeated least squares: links weighed by where they stand now, then a few sweeps."""
        steps, weights = seen
        weights = weights / (1 + _off(stack, links, steps).square().sum(1, keepdim=True) / width**2).square()
        bands = _matrix(len(stack), links, weights)
        bands[0] += springs.total + _TIE
        _hold(bands, fixed)
        factors = factored(bands)
        for _ in range(self.sweeps if self.springs else 1):
            force = _force(stack, links, steps, weights) + springs.force(stack)
            force[fixed] = 0
            stack = stack + (_DAMPING if self.springs else 1.0) * solved(factors, force)
        return stack


def _off(stack: Stack, links: Links, steps: Tensor) -> Tensor:
    """How far the sections of each link are from where it wants them."""
    return stack[links.source] - stack[links.target] - steps


def _force(stack: Stack, links: Links, steps: Tensor, weights: Tensor) -> Stack:
    """Where links draw each section, times their weight."""
    pull = weights * _off(stack, links, steps)
    force = torch.zeros_like(stack)
    force.index_add_(0, torch.tensor(links.target, device=stack.device), pull)
    return force.index_add_(0, torch.tensor(links.source, device=stack.device), -pull)


def _matrix(num: int, links: Links, weights: Tensor) -> Bands:
    """The band matrix along z that the links make."""
    width = max((a - b for a, b in zip(links.source, links.target, strict=True)), default=0)
    bands = [weights.new_zeros(num, *weights.shape[1:]) for _ in range(width + 1)]
    for weight, source, target in zip(weights, links.source, links.target, strict=True):
        bands[0][source] += weight
        bands[0][target] += weight
        bands[source - target][source] -= weight
    return bands


def _hold(bands: Bands, fixed: list[int]) -> None:
    """Make the sections in ``fixed`` no unknowns."""
    for z in fixed:
        bands[0][z] = 1
        for j, band in enumerate(bands[1:], 1):
            band[z] = 0
            if z + j < len(band):
                band[z + j] = 0


@dataclass(frozen=True)
class Springs:
    """Springs between neighbouring pixels of each section: for each direction (oy, ox) their stiffness, and its sum at each pixel."""

    stiff: dict[tuple[int, int], Tensor]
    total: Maps
    turning: bool

    @classmethod
    def between(cls, whole: Maps, weight: float, penalty: Penalty) -> Springs:
        """Springs of ``weight`` wherever both ends are ``whole``."""
        stiff, total = {}, torch.zeros_like(whole)
        for way in _NEIGHBOURS[penalty] if weight else ():
            here, there = _ends(whole, way)
            stiff[way] = weight * here * there
            for end in _ends(total, way):
                end += stiff[way]
        return cls(stiff, total, penalty == "rigidity")

    def force(self, stack: Stack) -> Stack:
        """Where the springs draw each pixel, times their stiffness."""
        result = torch.zeros_like(stack)
        for way, stiff in self.stiff.items():
            here, there = _ends(stack, way)
            pull = stiff * (there - here - self._rest(there - here, way))
            first, second = _ends(result, way)
            first += pull
            second -= pull
        return result

    def _rest(self, change: Tensor, way: tuple[int, int]) -> Tensor | float:
        """The change of the field along a spring at which it rests: none, or that of the turned spring at its own length."""
        if not self.turning:
            return 0.0
        along = torch.tensor(way, dtype=change.dtype, device=change.device).view(1, 2, 1, 1)
        spring = change + along
        length = spring.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)
        return spring * (along.square().sum().sqrt() / length) - along


def _ends(maps: Tensor, way: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Views of the maps at both ends of all springs of a direction."""
    (y0, y1), (x0, x1) = (_spans(way[0], maps.shape[-2]), _spans(way[1], maps.shape[-1]))
    return maps[..., y0, x0], maps[..., y1, x1]


def _spans(offset: int, size: int) -> tuple[slice, slice]:
    here = slice(max(0, -offset), size - max(0, offset))
    return here, slice(here.start + offset, here.stop + offset)
