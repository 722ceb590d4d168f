"""Pictures of sections and fields, as arrays and as files in memory.

Images come in as (y, x); pictures are uint8 (y, x, 3). Fields are (2, y, x) in pixels, (dy, dx), and are shown by the direction
(hue) and the length (strength of colour) of the displacement; ``field_legend`` is the key to them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import imageio.v3 as iio
import matplotlib
import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from lamella.core.errors import UserError

Picture = NDArray[np.uint8]

_NOTHING = (58, 66, 84)  # colour of missing data and of values that are not known; nothing in a section has it


def grey(image: NDArray[Any], limits: tuple[float, float] | None = None, missing: float | None = 0) -> Picture:
    """A section as a picture, ``limits`` (black, white) stretched to the full range and ``missing`` pixels in slate blue.

    Without limits, the 0.5 and 99.5 percentiles of what is not missing are used. ``missing=None`` when 0 is a value like others.
    """
    known = np.isfinite(image) if missing is None else np.isfinite(image) & (image != missing)
    low, high = limits or _percentiles(image, known)
    value = (np.nan_to_num(image.astype(np.float32)) - low) / max(high - low, 1e-12)
    shown = np.repeat((np.clip(value, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    shown[~known] = _NOTHING
    return shown


def grey_limits(image: NDArray[Any]) -> tuple[float, float]:
    """The grey values to show as black and white, from the pixels that are not missing (0); for pictures to be compared."""
    return _percentiles(image, np.isfinite(image) & (image != 0))


def _percentiles(image: NDArray[Any], known: NDArray[np.bool_]) -> tuple[float, float]:
    values = image[known]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high)


def longest(field: NDArray[np.floating]) -> float:
    """A length in px that nearly all of a field stays below, for the scale of its picture."""
    length = np.hypot(field[0], field[1])
    known = length[np.isfinite(length)]
    return max(float(np.percentile(known, 99.5)), 1e-3) if known.size else 1.0


def field_colour(field: NDArray[np.floating], limit: float | None = None) -> Picture:
    """A field (2, y, x) as a picture: no displacement is white, ``limit`` px or more has the full colour of its direction."""
    limit = limit or longest(field)
    length = np.hypot(field[0], field[1])
    known = np.isfinite(length)
    dy, dx = (np.where(known, c, 0) for c in field)
    hue = (np.arctan2(dy, dx) / (2 * np.pi)) % 1.0
    strength = np.clip(np.where(known, length, 0) / limit, 0, 1)
    shown = (hsv_to_rgb(np.stack([hue, strength, 1 - 0.15 * strength], axis=-1)) * 255).astype(np.uint8)
    shown[~known] = _NOTHING
    return shown


def field_legend(size: int = 96) -> Picture:
    """The key to ``field_colour``: each point of the disc has the colour of a displacement from the centre to there."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = size / 2 - 1
    disc = field_colour(np.stack([y, x]), radius)
    disc[np.hypot(y, x) > radius] = 255
    return disc


def heat(values: NDArray[np.floating], limit: float, colours: str = "inferno") -> Picture:
    """Values from 0 (dark) to ``limit`` (bright); what is not finite is slate blue."""
    known = np.isfinite(values)
    mapped = matplotlib.colormaps[colours](np.clip(np.where(known, values, 0) / limit, 0, 1), bytes=True)
    shown = np.ascontiguousarray(mapped[..., :3], np.uint8)
    shown[~known] = _NOTHING
    return shown


def checkerboard(a: Picture, b: Picture, tile: int = 64) -> Picture:
    """Two pictures in alternating squares; where they fit, structures run on across the edges."""
    y, x = np.mgrid[: a.shape[0], : a.shape[1]] // tile
    return np.where(((y + x) % 2 == 0)[..., None], a, b)


def overlay(a: Picture, b: Picture) -> Picture:
    """``a`` in magenta and ``b`` in green, which is grey where both agree."""
    return np.stack([a[..., 0], b[..., 0], a[..., 0]], axis=-1)


def cross_section(stack: NDArray[Any], stretch: float) -> NDArray[Any]:
    """A cut through sections, (z, x) or (z, y), with each section repeated to the height it has in px (z spacing / pixel size)."""
    rows = max(round(stretch * len(stack)), len(stack))
    return stack[np.arange(rows) * len(stack) // rows]


def shrink(picture: NDArray[Any], longest_side: int) -> NDArray[Any]:
    """The picture averaged over whole squares of pixels so that no side is longer than ``longest_side``."""
    factor = -(-max(picture.shape[:2]) // longest_side)
    if factor <= 1:
        return picture
    h, w = (n // factor for n in picture.shape[:2])
    cut = picture[: h * factor, : w * factor].reshape(h, factor, w, factor, *picture.shape[2:])
    return cut.mean(axis=(1, 3)).astype(picture.dtype)


def beside(pictures: Sequence[Picture], gap: int = 6, columns: int | None = None) -> Picture:
    """Pictures in rows of ``columns`` (all in one row by default), on white."""
    columns = columns or len(pictures)
    h, w = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def png(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    iio.imwrite(buffer, picture, extension=".png")
    return buffer.getvalue()


def gif(pictures: Sequence[Picture], seconds: float = 0.6) -> bytes:
    """The pictures as a GIF that flickers through them for ever; movement between them catches the eye."""
    if len({p.shape for p in pictures}) != 1:
        raise UserError(f"frames of a GIF have shapes {[p.shape for p in pictures]}; give pictures of one shape")
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.stack(pictures), extension=".gif", duration=int(1000 * seconds), loop=0)
    return buffer.getvalue()
