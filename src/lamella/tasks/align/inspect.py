"""Look inside an aligner: what each level of its pyramid makes of a pair of sections.

A net that has learnt has encodings that vary with the tissue and look alike in both sections, and each level brings them closer:
their correlation rises from level to level, where the same encodings mirrored stay unrelated. Maps that are the same everywhere,
residuals of zero at every level, or a correlation no better than that of mirrored encodings tell of a net that has not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lamella.core.box import Box, parse_box
from lamella.core.errors import UserError
from lamella.data.sections import Sections
from lamella.data.source import SourceConfig, StackSource, open_sources
from lamella.nets.aligner import SiamesePyramid
from lamella.ops.downsample import downsample_mean
from lamella.ops.field import finer, fold_fraction, rescale, warp
from lamella.ops.normalise import NormaliserConfig
from lamella.tasks.align.inspect_settings import InspectSettings

Image = NDArray[np.float32]
_SILENT = (
    0.02  # of the standard deviation of the level's strongest map: about what a rectifier lets through of a dead one
)


@dataclass(frozen=True)
class Pair:
    """Two normalised sections (y, x) of one place: ``source`` is section ``z`` of ``path``, ``target`` the one before."""

    path: str
    mip: int
    box: Box
    source: Image
    target: Image


@dataclass(frozen=True)
class Level:
    """What a level does. Encodings are (c, y, x); fields (2, y, x) in its own pixels; ``residual`` is what it adds to the field
    that came from the coarser level. ``before`` and ``after`` are cosines of the encodings per pixel, looked up through the field
    from the coarser level and through its own.
    """

    level: int
    source: Image
    target: Image
    field: Image
    residual: Image
    before: Image
    after: Image
    null: float
    images_before: float
    images_after: float
    folds: float

    @property
    def scale(self) -> int:
        """Pixels of the image that one of the level's covers."""
        return 2**self.level

    def row(self) -> dict[str, float | int]:
        """The figures of the level; lengths in pixels of the image."""
        residual = self.scale * np.hypot(*self.residual)
        spread = np.concatenate([self.source, self.target], axis=1).std((1, 2))
        return {
            "level": self.level,
            "pixel": self.scale,
            "maps": len(spread),
            "silent maps": int((spread <= _SILENT * spread.max()).sum()),
            "moved, mean px": float(residual.mean()),
            "moved, longest px": float(residual.max()),
            "encodings before": float(self.before.mean()),
            "encodings after": float(self.after.mean()),
            "encodings mirrored": self.null,
            "images before": self.images_before,
            "images after": self.images_after,
            "folded %": 100 * self.folds,
        }


@dataclass(frozen=True)
class Inspection:
    """A pair, what each level made of it (coarse to fine), and the result at full size."""

    pair: Pair
    levels: tuple[Level, ...]
    field: Image
    aligned: Image

    def rows(self) -> list[dict[str, float | int]]:
        return [level.row() for level in self.levels]


def find_pair(source: SourceConfig, settings: InspectSettings, normaliser: NormaliserConfig) -> Pair:
    """Read and normalise the sections that ``settings`` name, as in training."""
    asked = {key: value for key in ("mip", "dataset") if (value := getattr(settings, key)) is not None}
    found = open_sources(source.model_copy(update=asked), (2, 1, 1))[0]
    box = _place(found, settings)
    sections = Sections(found.images, normaliser.build(found.mip), box, keep=False)
    window = sections.window(box, 1.0)
    assert window is not None
    target, moving = window.reshape(-1, *window.shape[-2:])
    for section, z in ((target, box.start[-3]), (moving, box.start[-3] + 1)):
        if not section.any():
            raise UserError(f"section {z} of {source.path} holds no data in {box}; choose another --z or place")
    return Pair(source.path, found.mip, box, moving, target)


def _place(found: StackSource, settings: InspectSettings) -> Box:
    """Two sections of the part asked for."""
    path, whole = found.images.volume.path, found.images.box
    leading = () if whole.ndim == 3 else (settings.sample,)
    if leading and not whole.start[0] <= settings.sample < whole.stop[0]:
        raise UserError(
            f"sample {settings.sample} does not exist in {path}, which has {whole.shape[0]} stacks; choose one"
        )
    first, last = whole.start[-3] + 1, whole.stop[-3] - 1
    z = (found.selection.start[-3] + found.selection.stop[-3]) // 2 if settings.z is None else settings.z
    if not first <= z <= last:
        raise UserError(f"section {z} of {path} has no section before it there; choose --z from {first} to {last}")
    plane, chosen = (Box(b.start[-2:], b.stop[-2:]) for b in (whole, found.selection))
    part = parse_box(settings.bbox, plane) if settings.bbox else _around(settings, plane, chosen)
    return Box((*leading, z - 1, *part.start), (*(n + 1 for n in leading), z + 1, *part.stop))


def _around(settings: InspectSettings, plane: Box, chosen: Box) -> Box:
    """A square around the centre, by default that of the ``chosen`` part, moved inside the section where it would reach out."""
    centre = [(a + b) // 2 for a, b in zip(chosen.start, chosen.stop, strict=True)]
    if settings.centre is not None:
        parts = settings.centre.split(",")
        if len(parts) != 2 or not all(p.strip().lstrip("-").isdigit() for p in parts):
            raise UserError(f"centre {settings.centre!r} is not Y,X; write for example {centre[0]},{centre[1]}")
        centre = [int(p) for p in parts]
        if not Box(tuple(centre), tuple(n + 1 for n in centre)).within(plane):
            raise UserError(f"centre {settings.centre} lies outside the section, {plane}; choose a place within it")
    start, stop = [], []
    for c, a, b in zip(centre, plane.start, plane.stop, strict=True):
        side = min(settings.size, b - a)
        start.append(min(max(c - side // 2, a), b - side))
        stop.append(start[-1] + side)
    return Box(tuple(start), tuple(stop))


@torch.inference_mode()
def inspect_pair(net: SiamesePyramid, pair: Pair) -> Inspection:
    """Run the net on a pair and keep what it computes on the way."""
    source, target = (torch.from_numpy(image)[None, None] for image in (pair.source, pair.target))
    from_source, from_target = net.encode(source), net.encode(target)
    fields = net.align(from_source, from_target)
    levels, coarser_field = [], None
    for level, field in fields.items():
        start = _start(coarser_field, field)
        levels.append(_level(level, pair, (from_source[level], from_target[level]), (start, field)))
        coarser_field = field
    full = rescale(fields[net.config.skip], net.config.skip, pair.target.shape)
    return Inspection(pair, tuple(levels), _array(full), _array(warp(source, full))[0])


def _start(coarser_field: Tensor | None, field: Float[Tensor, "1 2 h w"]) -> Float[Tensor, "1 2 h w"]:
    """The field that a level began with."""
    return (
        torch.zeros_like(field) if coarser_field is None else finer(coarser_field, (field.shape[-2], field.shape[-1]))
    )


def _level(level: int, pair: Pair, encodings: tuple[Tensor, Tensor], fields: tuple[Tensor, Tensor]) -> Level:
    (source, target), (start, field) = encodings, fields
    before, after, null = (
        F.cosine_similarity(target, other, dim=1)
        for other in (warp(source, start), warp(source, field), source.flip(-1))
    )
    images = [_halved(image, level) for image in (pair.source, pair.target)]
    return Level(
        level,
        _array(source),
        _array(target),
        _array(field),
        _array(field - start),
        _array(before),
        _array(after),
        float(null.mean()),
        _pearson(images[1], images[0], torch.zeros_like(field)),
        _pearson(images[1], images[0], field),
        float(fold_fraction(field)[0]),
    )


def _halved(image: Image, level: int) -> Image:
    return downsample_mean(image, (2**level, 2**level), ignore_zero=True)


def _pearson(target: Image, source: Image, field: Float[Tensor, "1 2 h w"]) -> float:
    """Correlation of the target with the source looked up through the field, where both hold data; NaN where nothing varies."""
    moved = _array(warp(torch.from_numpy(source)[None, None], field))[0]
    present = _array(warp(torch.from_numpy((source > 0).astype(np.float32))[None, None], field))[0]
    valid = (present > 0.99) & (target > 0)
    if valid.sum() < 3 or not (np.ptp(moved[valid]) and np.ptp(target[valid])):
        return float("nan")
    return float(np.corrcoef(moved[valid], target[valid])[0, 1])


def _array(tensor: Tensor) -> Image:
    """The only item of a batch."""
    return tensor[0].float().numpy()
