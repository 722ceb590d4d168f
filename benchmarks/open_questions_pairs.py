"""Pairs of held-out sections with known fields, and what an estimator makes of them; for ``open_questions.py``.

Each pair is made at one place of a section that no training has seen. The section is moved by a smooth field, and where asked torn by a
crack or a fold; both it and its copy at rest get a contrast, shading, blur and noise of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lamella.core.rng import stream
from lamella.data.augment import Crack, Fold
from lamella.data.sample import Layer, Sample
from lamella.io import open_volume
from lamella.ops.correlation import chunked_pearson
from lamella.ops.field import compose, fold_fraction, identity_grid, invert, smooth_field, warp
from lamella.tasks.align.estimate import Estimator

TRAINING = {"em_isbi2012/image": "0:15", "em_vnc/raw": "0:9"}
HELD_OUT = (  # folder, section, corner of a square of SIDE pixels
    ("em_isbi2012/image", 15, (0, 0)),
    ("em_vnc/raw", 9, (0, 0)),
    ("em_isbi2012/image", 17, (0, 0)),
    ("em_vnc/raw", 10, (512, 512)),
)
SIDE = 512
BORDER = 32  # pixels at the edges that are left out
TORN = {"crack": Crack(p=1, width=(12, 12)), "fold": Fold(p=1, width=(16, 16))}
SEED = 7000
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """``moving`` is ``fixed`` moved: moving(p + truth(p)) = fixed(p) where ``seen``; ``damage`` is a ternary mask of moving. ``own`` and
    ``neighbour`` are the section and the next as they are."""

    name: str
    fixed: Image
    moving: Image
    truth: torch.Tensor
    seen: NDArray[np.bool_]
    near: NDArray[np.bool_]
    damage: NDArray[np.uint8]
    own: Image
    neighbour: Image


def places(data: Path) -> Iterator[tuple[str, Image, Image]]:
    """Name, section and next section at each held-out place."""
    for folder, z, (y, x) in HELD_OUT:
        stack = open_volume(data / folder)
        sections = stack.read(stack.box)[z : z + 2, y : y + SIDE, x : x + SIDE]
        yield f"{folder.split('/')[0]} {z}", sections[0], sections[1]


def imaged(rng: np.random.Generator, image: NDArray[np.floating]) -> Image:
    """``image`` in [0, 1] as another microscope might have taken it: gamma, contrast, shading, blur, noise; 0 stays missing."""
    shading = ndimage.zoom(rng.standard_normal((4, 4)), np.array(image.shape) / 4, order=3)
    grey = image ** rng.uniform(0.65, 1.5) - 0.5
    grey = 0.5 + grey * rng.uniform(0.55, 1.1) + rng.uniform(-0.1, 0.1) + 0.05 * shading
    grey = ndimage.gaussian_filter(grey, rng.uniform(0, 0.8)) + rng.normal(0, rng.uniform(0.03, 0.07), image.shape)
    return np.where(image > 0, np.clip(grey * 255, 1, 255), 0).astype(np.uint8)


def make_pair(name: str, own: Image, neighbour: Image, damage: str, amplitude: float) -> Pair:
    """One pair; ``damage`` is ``crack``, ``fold`` or ``none``."""
    rng = stream(SEED, name, damage)
    field = smooth_field(rng, (SIDE, SIDE), amplitude, 8 * amplitude + 32)
    section = torch.from_numpy(own.astype(np.float32) / 255).clamp_min(1 / 255)
    moved = warp(section[None, None], invert(field), mode="bicubic", padding="reflection").clamp(1 / 255, 1)
    place = identity_grid(SIDE, SIDE, like=field) + field
    hidden = near = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask = torch.zeros(SIDE, SIDE)
    if damage in TORN:
        each = TORN[damage]
        sample = Sample({"sections": Layer(moved, "image")})
        params = each.draw(rng, sample)
        after = each.apply(sample, params)
        moved, mask = after["sections"].tensor, after["masks"].tensor[0, 0]
        before = place.flatten(2)[:, None]
        hidden = params.tear.hides(before).view(SIDE, SIDE)
        place = params.tear.push(before).view_as(place)
        near = params.tear.near(place.flatten(2)[:, None], 16.0).view(SIDE, SIDE)
    inside = ((place > 8) & (place < SIDE - 9)).all(1)[0] & ~hidden
    seen = np.zeros((SIDE, SIDE), bool)
    seen[BORDER:-BORDER, BORDER:-BORDER] = inside[BORDER:-BORDER, BORDER:-BORDER].numpy()
    return Pair(
        f"{name} {damage}",
        imaged(rng, section.numpy()),
        imaged(rng, moved[0, 0].numpy()),
        place - identity_grid(SIDE, SIDE, like=field),
        seen,
        near.numpy() & seen,
        mask.numpy().astype(np.uint8),
        own,
        neighbour,
    )


def make_pairs(data: Path, damage: str) -> list[Pair]:
    """Pairs at every held-out place, with fields of 8 and 16 pixels in turn."""
    return [make_pair(*place, damage, (8.0, 16.0)[n // 2]) for n, place in enumerate(places(data))]


def _field(estimator: Estimator, source: Image, target: Image, mask: Any = None) -> torch.Tensor:
    return torch.from_numpy(estimator.pair(source, target, mask))[None]


def _correlation(source: Image, field: torch.Tensor, target: Image) -> float:
    """Mean correlation of the moved source and the target in squares of 32 pixels."""
    moved = warp(torch.from_numpy(source.astype(np.float32))[None, None], field, padding="border")[0, 0].numpy()
    return float(np.nanmean(chunked_pearson(moved, target, 32, border=BORDER)))


def _lengths(field: torch.Tensor) -> NDArray[np.float32]:
    return field.square().sum(1).sqrt()[0].numpy()


def score_smooth(estimator: Estimator, pair: Pair) -> dict[str, float]:
    """Errors of one pair against the known field, how stable the field to the next section is, and what it fits and invents."""
    once = replace(estimator, passes=1)
    error = _lengths(_field(once, pair.moving, pair.fixed) - pair.truth)[pair.seen]
    still, back = _field(once, pair.own, pair.neighbour), _field(once, pair.neighbour, pair.own)
    across = _lengths(_field(once, pair.moving, pair.neighbour) - compose(pair.truth, still))[pair.seen]
    unrelated = np.ascontiguousarray(pair.neighbour[::-1, ::-1])
    after = _correlation(pair.own, still, pair.neighbour)
    null = _correlation(pair.own, _field(once, pair.own, unrelated), unrelated)
    inner = slice(BORDER, -BORDER)
    return {
        "same_med": float(np.median(error)),
        "same_p95": float(np.percentile(error, 95)),
        "cross_med": float(np.median(across)),
        "cross_p95": float(np.percentile(across, 95)),
        "after": after,
        "null": null,
        "net": after - null,
        "there_and_back": float(np.median(_lengths(compose(back, still))[inner, inner])),
        "folded_percent": 100 * float(fold_fraction(still[..., inner, inner])),
    }


def score_torn(estimator: Estimator, pair: Pair) -> dict[str, float]:
    """Errors of one pair within 16 pixels of damage, when the estimator is not told of it and when it is."""
    found = {}
    for name, mask in (("blind", None), ("told", pair.damage)):
        error = _lengths(_field(estimator, pair.moving, pair.fixed, mask) - pair.truth)
        found[f"{name}_med"] = float(np.median(error[pair.near]))
        found[f"{name}_p95"] = float(np.percentile(error[pair.near], 95))
    return found
