"""Images with a handful of labelled points, to learn classes from: crops around points, or points alone.

Sample ``i`` is drawn from the random stream (seed, i) alone. A sample has

- ``image`` (image, (1, c, *space), float32), scaled by the normaliser; embeddings as they were stored;
- ``class_0``, ``class_1`` ... (points, (1, n, d)), the points of each class that lie in the crop, in voxels of the crop.

With a ``crop`` above 1, a class is drawn, then one of its points, and the crop lies so that the point is in its middle half. All
points in the crop count, but for those in its ``context``. With ``crop`` 1, for heads that read each voxel by itself, a sample is a
list of ``per_sample`` points and nothing around them: an image of that many voxels in a row, as many of each class, each with its
point.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.data.crops import CropsConfig, Start
from lamella.data.embeddings import KEY
from lamella.data.image import ScaledImage
from lamella.data.image_source import ImageSource, Part, length_of
from lamella.data.images import IMAGE, ImagesData, load
from lamella.data.numbered import Drawn, Numbered
from lamella.data.points_table import PointTable, check_inside, check_known, need_classes, read_points
from lamella.data.sample import Layer, Sample
from lamella.io.layouts import stem

_CLASS = "class_"  # followed by its number: the layer of its points


class PointsData(CropsConfig):
    """Which points a net learns from, and what of their images it sees."""

    held_out_needs_length: ClassVar[bool] = False  # without one, every point is validated on once

    kind: Literal["points"] = "points"
    sources: tuple[ImageSource, ...] = Field(min_length=1, description="images, or embeddings that were stored")
    points: str = Field(description="CSV file of the points: image, axes, class; see `lamella prep points`")
    num_points: int | None = Field(
        None, ge=1, description="take so many points, the first of each class; all if not given"
    )
    per_sample: int = Field(256, ge=1, description="points of a sample where crop is 1")

    def build(self, seed: int) -> PointSamples:
        """Open the images and the points.

        Raises UserError for points outside their images, in images that are not there, or of one class only, and for what
        ``images`` refuse.
        """
        return PointSamples(self, self._load(), seed)

    def held_out(self, seed: int) -> PointSamples | EachPoint:
        """Samples to validate on: ``length`` of them, or each point once."""
        return self.build(seed) if self.length is not None else EachPoint(self, self._load())

    @property
    def alone(self) -> bool:
        """Whether points are taken without what surrounds them."""
        return prod(self.per_axis(self.crop)) == 1

    def images_data(self) -> ImagesData:
        """The images without their points."""
        shared = {name: getattr(self, name) for name in CropsConfig.model_fields}
        return ImagesData(**shared, sources=self.sources)

    def _load(self) -> Loaded:
        return Loaded(self)


class Loaded:
    """The images that have points, the points that lie in what the sources take, and ``where``: the image of each."""

    def __init__(self, config: PointsData) -> None:
        table = read_points(config.points)
        named, there = set(table.images), dict[str, None]()

        def wanted(name: str, part: Part) -> bool:
            there[point_name(name, part)] = None
            return point_name(name, part) in named

        found, self.skipped = load(config.images_data(), wanted)
        check_known(table, there, config.points)
        check_inside(table, _shapes(found), config.points)
        where = _where(table, found)
        table, where = table.taken(np.flatnonzero(where >= 0)), where[where >= 0]
        if not len(table):
            raise UserError(
                f"no point of {config.points} lies in the part that the sources take; give another bbox or z"
            )
        self.table = table
        if config.num_points is not None:
            chosen = table.first(config.num_points)
            self.table, where = table.taken(chosen), where[chosen]
        need_classes(self.table, config.points)
        used = np.unique(where)
        self.images = tuple(found[k] for k in used)
        self.where = np.searchsorted(used, where)
        starts = np.array([image.part.box.start for image in self.images], np.float64)
        self.places = self.table.places - starts[self.where]


class _Samples(Numbered):
    """What drawn samples and single points share."""

    def __init__(self, config: PointsData, loaded: Loaded) -> None:
        self.config, self.crops = config, config.crops
        self.images, self.skipped = loaded.images, loaded.skipped
        self._places, self._classes, self._where = loaded.places, loaded.table.classes, loaded.where
        self.num_classes = int(self._classes.max()) + 1
        self._vectors = self._gathered() if config.alone else None

    @property
    def num_channels(self) -> int:
        """Channels of ``image``."""
        return self.images[0].part.num_channels * self.config.slices

    def _gathered(self) -> NDArray[np.float32]:
        """What stands at each point, (n, c)."""
        found = np.empty((len(self._places), self.num_channels), np.float32)
        places = np.floor(self._places + 0.5).astype(np.int64)
        order = np.lexsort((*places.T[::-1] // 64, self._where))  # points that share a chunk follow each other
        with progress("reading points", len(order), "points") as meter:
            for k in order:
                start = tuple(int(v) for v in places[k])
                box = Box(start, tuple(v + 1 for v in start))
                found[k] = self.images[self._where[k]].image(box, self.config.slices).reshape(-1)
                meter.advance()
        return found

    def _listed(self, chosen: Sequence[int] | NDArray[np.intp]) -> Sample:
        """Points without surroundings."""
        assert self._vectors is not None
        ndim = self.config.ndim
        image = np.ascontiguousarray(self._vectors[chosen].T).reshape(1, -1, len(chosen), *[1] * (ndim - 1))
        places = np.zeros((len(chosen), ndim))
        places[:, 0] = np.arange(len(chosen))
        return self._sample(image, places, self._classes[chosen])

    def _around(self, image: ScaledImage, start: Start, chosen: NDArray[np.intp]) -> Sample:
        """A crop with those of the ``chosen`` points that lie in it."""
        shown, _ = self.crops.shown(image, start)
        first = np.array(start[-self.config.ndim :])
        places = self._places[chosen][:, -self.config.ndim :] - first
        context = np.array(self.crops.context)
        near = ((places >= context) & (places <= np.array(self.crops.size) - 1 - context)).all(1)
        if self.config.ndim == 2:
            near &= np.floor(self._places[chosen, 0] + 0.5) == start[0]
        return self._sample(shown[None], places[near], self._classes[chosen][near])

    def _sample(self, image: NDArray[np.float32], places: NDArray[Any], classes: NDArray[np.int64]) -> Sample:
        layers = {IMAGE: Layer(torch.from_numpy(np.ascontiguousarray(image)), "image")}
        for k in range(self.num_classes):
            layers[f"{_CLASS}{k}"] = Layer(torch.from_numpy(places[classes == k].astype(np.float32))[None], "points")
        return Sample(layers)

    def _start(self, image: ScaledImage, place: NDArray[Any], jitter: Sequence[int]) -> Start:
        """Where a crop begins that has ``place`` (z, y, x) in its middle, moved by ``jitter``, inside the image where it fits."""
        at = np.floor(place + 0.5).astype(np.int64)
        start = []
        for axis, (n, size) in enumerate(zip(image.shape[-self.config.ndim :], self.crops.size, strict=True)):
            context = self.crops.context[axis]
            wanted = int(at[axis - self.config.ndim]) - size // 2 + jitter[axis]
            ends = sorted((-context, n - size + context))
            start.append(min(max(wanted, ends[0]), ends[1]))
        return (int(at[0]), *start) if self.config.ndim == 2 else tuple(start)


class PointSamples(Drawn, _Samples):
    """Samples by index, see the module. Picklable; indices past ``length`` begin again."""

    def __init__(self, config: PointsData, loaded: Loaded, seed: int) -> None:
        super().__init__(config, loaded)
        self.seed, self.length = seed, config.length
        self._of_class = [np.flatnonzero(self._classes == k) for k in np.unique(self._classes)]

    def sample(self, index: int) -> Sample:
        rng = stream(self.seed, "sample", index)
        if self.config.alone:
            return self._listed(self._drawn(rng))
        of_class = self._of_class[int(rng.integers(len(self._of_class)))]
        point = int(of_class[int(rng.integers(len(of_class)))])
        image = self.images[self._where[point]]
        reach = [(n - 2 * c) // 4 for n, c in zip(self.crops.size, self.crops.context, strict=True)]
        jitter = [int(rng.integers(-r, r + 1)) for r in reach]
        start = self._start(image, self._places[point], jitter)
        return self._around(image, start, np.flatnonzero(self._where == self._where[point]))

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """``per_sample`` points, as many of each class; all of a class before one comes again."""
        share, rest = divmod(self.config.per_sample, len(self._of_class))
        chosen = []
        for number, points in enumerate(self._of_class):
            want = share + (number < rest)
            rounds = [rng.permutation(points) for _ in range(-(-want // len(points)))]
            chosen.append(np.concatenate([*rounds, points[:0]])[:want])
        return np.concatenate(chosen)


class EachPoint(_Samples):
    """Every point once, in order: in the middle of its crop, or in lists."""

    def __len__(self) -> int:
        return -(-len(self._places) // self.config.per_sample) if self.config.alone else len(self._places)

    def __getitem__(self, index: int) -> Sample:
        if self.config.alone:
            first = index * self.config.per_sample
            return self._listed(np.arange(first, min(first + self.config.per_sample, len(self._places))))
        image = self.images[self._where[index]]
        start = self._start(image, self._places[index], (0,) * self.config.ndim)
        return self._around(image, start, np.array([index]))


def classes_in(sample: Sample) -> dict[int, str]:
    """The layers of points by their class; empty for a sample without points."""
    return {int(name.removeprefix(_CLASS)): name for name in sample if name.startswith(_CLASS)}


def _shapes(images: Sequence[ScaledImage]) -> dict[str, tuple[int, int, int]]:
    """Voxels z y x of the whole image of each name."""
    paths: dict[str, str] = {}
    shapes: dict[str, tuple[int, int, int]] = {}
    for image in images:
        name, volume = _named(image), image.part.volume
        if paths.setdefault(name, volume.path) != volume.path:
            raise UserError(
                f"{paths[name]} and {volume.path} are both called {name!r}, so points in it cannot be told apart; rename one"
            )
        z, y, x = (length_of(volume, axis) for axis in "zyx")
        shapes[name] = (z, y, x)
    return shapes


def _where(table: PointTable, images: Sequence[ScaledImage]) -> NDArray[np.int64]:
    """The number of the image whose part holds each point; -1 for points outside of all parts."""
    where = np.full(len(table), -1, np.int64)
    for number, image in enumerate(images):
        here = table.of(_named(image))
        voxels = np.floor(table.places[here] + 0.5)
        box = image.part.box
        where[here[((voxels >= box.start) & (voxels < box.stop)).all(1)]] = number
    return where


def point_name(name: str, part: Part) -> str:
    """What points call an image: its name; of stored embeddings that of the image that they are of."""
    meta = part.volume.meta
    if KEY not in meta.provenance or "source" not in meta.provenance:
        return name
    source = stem(str(meta.provenance["source"]))
    return source if part.time is None else f"{source}_t{part.time}"


def _named(image: ScaledImage) -> str:
    return point_name(image.name, image.part)
