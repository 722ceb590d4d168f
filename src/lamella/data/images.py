"""Images without labels, to learn from what they show: crops at native pixel size.

Sample ``i`` is drawn from the random stream (seed, i) alone, so a resumed run goes on with the samples that the interrupted one
would have seen, with any number of workers. A sample has

- ``image`` (image, (1, c, *space), float32), each channel scaled by the normaliser; with ``slices`` neighbouring sections are
  channels, those of the first channel first;
- ``valid`` (weight, (1, 1, *space), float32), 1 where the crop shows the image, 0 outside the image, where it is mirrored, and in
  the crop's ``context``.

Space is ``y x``, or ``z y x`` with ``ndim`` 3. Where a folder or volume has labels too, they are left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.data.crops import CropsConfig
from lamella.data.image import ScaledImage
from lamella.data.image_source import ImageSource, Part, check_image, length_of, selected
from lamella.data.inputs import named_files
from lamella.data.load import Bad, Memory, image_bytes, image_key, measured, of_usual_channels
from lamella.data.numbered import Chances, Drawn, Numbered
from lamella.data.sample import Layer, Sample
from lamella.io import open_volume
from lamella.io.layouts import stem
from lamella.io.pairs import look, read_names, select

Loaded = tuple[tuple[ScaledImage, ...], tuple[str, ...]]  # images, and a line for each that was left out

IMAGE, VALID = "image", "valid"


class ImagesData(CropsConfig):
    """Which images a net is shown, and what of them it sees."""

    held_out_needs_length: ClassVar[bool] = False  # without one, every image is validated on once

    kind: Literal["images"] = "images"
    sources: tuple[ImageSource, ...] = Field(min_length=1, description="data sets of images")
    draw: Literal["images", "voxels"] = Field(
        "voxels", description="voxels: each image in proportion to its size; images: as often as any other"
    )

    def build(self, seed: int) -> ImageSamples:
        """Open all images, measure their intensities, and keep in memory what fits.

        Raises UserError, naming the file, for what cannot be read or does not have the axes and channels of the others.
        """
        return ImageSamples(self, load(self), seed)

    def held_out(self, seed: int) -> ImageSamples | ImageTiles:
        """Samples to validate on: ``length`` of them, or tiles that cover each image once."""
        return self.build(seed) if self.length is not None else ImageTiles(self, load(self))


class _Samples(Numbered):
    """What drawn samples and tiles share. ``skipped`` lists files left out."""

    def __init__(self, config: ImagesData, loaded: Loaded) -> None:
        self.config, self.crops = config, config.crops
        self.images, self.skipped = loaded

    @property
    def num_channels(self) -> int:
        """Channels of ``image``."""
        return self.images[0].part.num_channels * self.config.slices


class ImageSamples(Drawn, _Samples):
    """Samples by index, see the module. Picklable; indices past ``length`` begin again."""

    def __init__(self, config: ImagesData, loaded: Loaded, seed: int) -> None:
        super().__init__(config, loaded)
        self.seed, self.length = seed, config.length
        self._chances = Chances([config.chance(image) for image in self.images])

    def sample(self, index: int) -> Sample:
        rng = stream(self.seed, "sample", index)
        image = self.images[self._chances.pick(rng)]
        return _sample(*self.crops.shown(image, self.crops.draw(rng, image)))


class ImageTiles(_Samples):
    """All images once, in order: each voxel is ``valid`` in exactly one tile."""

    def __init__(self, config: ImagesData, loaded: Loaded) -> None:
        super().__init__(config, loaded)
        self._tiles = [(image, start) for image in self.images for start in self.crops.cover(image)]

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Sample:
        image, start = self._tiles[index]
        shown, valid = self.crops.shown(image, start)
        return _sample(shown, self.crops.own(image, start, valid))


def load(config: ImagesData, wanted: Callable[[str, Part], bool] | None = None) -> Loaded:
    """The images of ``config``, and one line for each file that was left out; raises UserError unless ``skip_bad``.

    ``wanted`` says by name and part which images are read; all if not given.
    """
    bad = Bad(config.skip_bad)
    opened = [_open(source, config, bad) for source in config.sources]
    if wanted is not None:
        opened = [[(name, part) for name, part in images if wanted(name, part)] for images in opened]
    kept = of_usual_channels(opened, lambda named: named[1], bad)
    parts = [part for images in kept for _, part in images]
    memory = Memory(((image_key(part), image_bytes(part)) for part in parts), config.cache_gb)
    found: list[ScaledImage] = []
    with progress("reading images", len(parts), "images") as meter:
        for source, images in zip(config.sources, kept, strict=True):
            for name, part in images:
                read = bad.attempt(lambda part=part: measured(part, config.normaliser, memory), part.volume.path)  # type: ignore[misc]
                if read is not None:
                    found.append(ScaledImage(name, part, read[1], read[0], weight=source.weight))
                meter.advance()
    for line in bad.lines:
        print(f"left out: {line}", file=sys.stderr)
    if not found and bad.lines:
        raise UserError(f"none of the images can be used; the first problem: {bad.lines[0]}")
    return tuple(found), tuple(bad.lines)


def _open(source: ImageSource, config: ImagesData, bad: Bad) -> list[tuple[str, Part]]:
    """Names and parts of a source's images, one for each time point."""
    files = _files(source)
    found: list[tuple[str, Part]] = []
    with progress("opening images", len(files), "images") as meter:
        for name, file in files:
            parts = bad.attempt(lambda file=file: _parts(file, source, config), file)  # type: ignore[misc]
            found += [(name if p.time is None else f"{name}_t{p.time}", p) for p in parts or []]
            meter.advance()
    return found


def _files(source: ImageSource) -> list[tuple[str, str]]:
    """Names and paths of the images that ``source`` names."""
    if source.names is None and source.layout == "auto":
        return named_files(source.path)
    pairs = list(look(source.path, layout=source.layout).pairs)
    if source.names is not None:
        pairs = select(pairs, read_names(source.names), source.path)
    return [(stem(image), image) for image in dict.fromkeys(pair.image for pair in pairs)]


def _parts(file: str, source: ImageSource, config: ImagesData) -> list[Part]:
    volume = open_volume(file, dataset=source.dataset, mip=source.mip)
    check_image(volume, file, source, config.ndim, config.slices)
    box = selected(source, volume, file)
    times = range(length_of(volume, "t")) if "t" in volume.meta.axes else (None,)
    return [Part(volume, box, t, source.channels) for t in times]


def _sample(image: NDArray[np.float32], valid: NDArray[np.float32]) -> Sample:
    """Arrays (c, *space) and (*space) as a sample of one."""
    return Sample(
        {
            IMAGE: Layer(torch.from_numpy(np.ascontiguousarray(image))[None], "image"),
            VALID: Layer(torch.from_numpy(np.ascontiguousarray(valid))[None, None], "weight"),
        }
    )
