"""Single PNG and JPEG files: one image, ``y x`` if it is grey and ``c y x`` in colour.

Grey levels keep their type: 1 bit reads as bool, 8 bits as uint8, 16 as uint16. An alpha channel says nothing of the specimen and
is left out. A file with a palette reads as the colours that it shows; its data set ``indices`` holds the numbers below them,
which is how some programs store labels. Files are decoded whole, once for the boxes that follow each other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import Header, StoredVolume
from lamella.io.contents import Contents, Dataset
from lamella.io.place import Place
from lamella.io.plan import Plan
from lamella.io.recent import Recent

INDICES = "indices"  # the data set of a palette's numbers

_MAGIC = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}
_GREY = {"1": "bool", "L": "uint8", "LA": "uint8", "I": "uint16", "F": "float32"}
_COLOUR = ("RGB", "RGBA", "P", "PA")


class Picture:
    """PNG and JPEG files, read only; a new image is written as a folder of sections or a TIFF."""

    kinds: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    label = "PNG or JPEG image"

    def contents(self, place: Place) -> Contents | None:
        file = place.local
        kind = _kind(file) if file is not None and file.is_file() else None
        if file is None or kind is None:
            return None
        with _opened(file) as image:
            has_palette = image.mode in ("P", "PA")
        datasets = {"": Dataset(1, partial(_open, file, False))}
        if has_palette:
            datasets[INDICES] = Dataset(1, partial(_open, file, True))
        return Contents(kind, datasets)

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        raise UserError(f"single pictures such as {place.url} are only read; write a .tif or a .zarr")


class PictureVolume(StoredVolume):
    """The image of one file, or the numbers of its palette."""

    def __init__(self, header: Header, file: Path, indices: bool) -> None:
        super().__init__(header)
        self.file, self.indices, self.recent = file, indices, Recent()

    def _read(self, box: Box) -> NDArray[Any]:
        whole = self.recent.get(0, lambda: _decode(self.file, self.indices))
        return np.array(whole[box.slices()])


def _kind(file: Path) -> str | None:
    try:
        with open(file, "rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


def _opened(file: Path) -> Image.Image:
    """The file's header; the image is not decoded yet."""
    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot read {file}: {error}; it may be damaged or cut short") from None


def _open(file: Path, indices: bool, mip: int, writable: bool) -> Volume:
    if writable:
        raise UserError(f"{file} is a single picture, which is only read; write a .tif or a .zarr")
    with _opened(file) as image:
        (width, height), mode = image.size, image.mode
        _check(file, image)
    colour = mode in _COLOUR and not indices
    shape = (3, height, width) if colour else (height, width)
    dtype = np.dtype("uint8" if mode in _COLOUR else _GREY.get(mode, "uint16"))
    meta = Meta.plain("cyx" if colour else "yx", name=file.stem)
    if colour:
        meta = Meta.plain("cyx", name=file.stem, channel_names=("red", "green", "blue"))
    return PictureVolume(Header(str(file), Box.of(shape), dtype, shape, meta), file, indices)


def _check(file: Path, image: Image.Image) -> None:
    if image.mode not in (*_GREY, *_COLOUR, "I;16", "I;16B"):
        raise UserError(f"{file} is stored as {image.mode}; lamella reads grey, RGB and palettes: convert it")
    if image.format == "PNG" and image.mode in _COLOUR and _bit_depth(file) == 16:
        raise UserError(f"{file} is RGB of 16 bits a channel, which PNG readers cut to 8; save it as TIFF")


def _bit_depth(file: Path) -> int:
    """Bits per sample of a PNG, from its header."""
    with open(file, "rb") as handle:
        return handle.read(25)[24]


def _decode(file: Path, indices: bool) -> NDArray[Any]:
    try:
        if indices:
            with _opened(file) as image:
                return np.asarray(image.convert("P") if image.mode == "PA" else image)
        array = np.asarray(iio.imread(file))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot read {file}: {error}; it may be damaged or cut short") from None
    if array.ndim == 2:
        return array
    return array[..., 0] if array.shape[-1] == 2 else np.moveaxis(array[..., :3], -1, 0)
