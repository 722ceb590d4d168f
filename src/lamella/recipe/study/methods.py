"""The methods that are compared: each learns from k points, is looked at a few times on the way, and gives class probabilities.

Time is CPU time of the process that learns. ``prepared`` is what a method needs before there are points, once for all of them: for
embeddings the contrast run, and embedding the images that have points. A forest measures its features as it learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.data.labelled_image import LabelledImage
from lamella.data.points_table import PointTable, write_points
from lamella.infer.maps import SpaceOp
from lamella.recipe.study.config import StudyConfig
from lamella.recipe.study.images import whole
from lamella.recipe.study.recipes import contrast_recipe, normaliser_of, scratch_recipe
from lamella.recipe.tune.crew import abandoned
from lamella.recipe.tune.trials import INTERRUPTED
from lamella.runs import RunFolder
from lamella.tasks.head.fit import Standard, fit_head, new_head, probabilities
from lamella.tasks.head.forest import Forest
from lamella.tasks.head.predictor import maps_of

Maps = NDArray[np.float32]  # probabilities or features (n, z, y, x)
Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]
_SAMPLE = 100_000  # voxels on which the scale of features is measured


@dataclass(frozen=True)
class Look:
    """What a method knows after ``seconds`` of learning."""

    name: str
    seconds: float
    maps: Callable[[LabelledImage], Maps]


@runtime_checkable
class Learner(Protocol):
    """A method with one seed."""

    @property
    def prepared(self) -> float:
        """Seconds that were spent before there were points."""
        ...

    def looks(self, points: PointTable, number: int) -> Iterator[Look]:
        """Learn from the first ``number`` of the seed's points."""
        ...


def learner_of(
    method: str, config: StudyConfig, seed: int, images: Mapping[str, LabelledImage], folder: Path
) -> Learner:
    """The method of that name; ``images`` are those that points lie in, by name, and ``folder`` is for what it keeps."""
    if method == "embedding":
        return Heads(config, seed, images, Embedded(config, seed, folder))
    if method == "scratch":
        return EndToEnd(config, seed, folder)
    if method == "tuned":
        return EndToEnd(config, seed, folder, Embedded(config, seed, folder))
    return Heads(config, seed, images, Pixels()) if method == "pixels" else Trees(config, seed, images)


@runtime_checkable
class Features(Protocol):
    """What a head reads."""

    @property
    def prepared(self) -> float:
        """Seconds that it took to be ready."""
        ...

    @property
    def learnt(self) -> int:
        """How many of them, the first, were learnt."""
        ...

    def ready(self) -> None:
        """Do what must be done before there are features."""
        ...

    def of(self, image: LabelledImage) -> Maps:
        """Features (h, z, y, x) of an image."""
        ...


class Pixels:
    """The intensities themselves."""

    prepared = 0.0
    learnt = 0

    def ready(self) -> None:
        """Nothing is to be done."""

    def of(self, image: LabelledImage) -> Maps:
        return whole(image)


class Embedded:
    """Embeddings of the seed's contrast run, which is trained when it is first asked for."""

    def __init__(self, config: StudyConfig, seed: int, folder: Path) -> None:
        self._config, self._seed, self._folder = config, seed, folder

    @cached_property
    def run(self) -> RunFolder:
        """The contrast run, trained."""
        from lamella.recipe.train import train

        name = f"contrast-{self._seed}"
        recipe = contrast_recipe(self._config, self._seed)
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f"{name}.lock"):  # another method may need it too, at the same time
            run, outcome = train(recipe, name, runs=self._folder, resume=True, judge=unless_abandoned)
        if outcome.reason == INTERRUPTED or outcome.interrupted:
            raise KeyboardInterrupt
        return run

    @cached_property
    def _embedder(self) -> Any:
        from lamella.recipe.embedder import load_embedder

        return load_embedder(f"{self.run.path}:last", device=self._device)[0]

    @property
    def _device(self) -> str:
        return contrast_recipe(self._config, self._seed).trainer.device

    @property
    def prepared(self) -> float:
        return float(self.run.provenance()["cpu_seconds"])

    @property
    def learnt(self) -> int:
        return int(self._embedder.net.learnt)

    def ready(self) -> None:
        """Train the contrast run, if that was not done."""
        _ = self.run

    def of(self, image: LabelledImage) -> Maps:
        embedder = self._embedder
        op = _Scaled(embedder.op(), image.scaling)
        return maps_of(image.part, op, self._config.ndim, embedder.net.h_channels)


class _Scaled:
    """An op for scaled images, applied to an image as it is stored."""

    def __init__(self, inner: SpaceOp, scaling: Callable[[NDArray[Any]], NDArray[np.float32]]) -> None:
        self._inner, self._scaling = inner, scaling
        self.context, self.stride = inner.context, inner.stride

    def identity(self) -> dict[str, Any]:
        return {**self._inner.identity(), "scaling": repr(self._scaling)}

    def __call__(self, patch: NDArray[Any]) -> Maps:
        return self._inner(self._scaling(patch))


@dataclass
class Heads:
    """A head on features that each voxel has by itself; features of an image are made once."""

    config: StudyConfig
    seed: int
    images: Mapping[str, LabelledImage]
    features: Features
    _kept: dict[str, Maps] = field(default_factory=dict)
    _vectors: dict[str, Vectors] = field(default_factory=dict)
    _spent: float = 0.0

    @property
    def prepared(self) -> float:
        return self.features.prepared + self._spent

    def looks(self, points: PointTable, number: int) -> Iterator[Look]:
        chosen = points.first(number)
        self.features.ready()  # a training counts by itself, and not as time for embedding
        vectors, standard = self._at(points, chosen)
        settings, num_classes = self.config.head, len(self.config.classes.names)
        for trust, steps in product(settings.trust if self.features.learnt else (1.0,), settings.steps):
            start = time.process_time()
            head = new_head(vectors.shape[1], num_classes, settings.hidden, self.seed)
            scale = standard.trusting(self.features.learnt, trust)
            fit_head(head, vectors, points.classes[chosen], scale, decay=settings.decay, steps=steps)
            spent, ready = time.process_time() - start, scale.folded(head)
            name = f"{steps} steps" if trust == 1 else f"{steps} steps, trust {trust:g}"
            yield Look(name, spent, lambda image, ready=ready: probabilities(ready, self._of(image)))  # type: ignore[misc]

    def _at(self, points: PointTable, chosen: NDArray[np.intp]) -> tuple[NDArray[np.float32], Standard]:
        """The features (n, h) of the chosen points, and the scale of the features of their images."""
        found: dict[int, NDArray[np.float32]] = {}
        sampled = []
        for name in dict.fromkeys(points.images[k] for k in chosen):
            vectors, some = self._image(name, points)
            found |= dict(zip(points.of(name).tolist(), vectors, strict=True))
            sampled.append(some)
        return np.stack([found[int(k)] for k in chosen]), Standard.of(np.concatenate(sampled))

    def _image(self, name: str, points: PointTable) -> Vectors:
        """Features (n, h) at all points of one image, and of some of its voxels."""
        if name not in self._vectors:
            image, start = self.images[name], time.process_time()
            maps = self.features.of(image)
            places = np.floor(points.places[points.of(name)] + 0.5).astype(np.int64) - image.part.box.start
            flat = maps.reshape(len(maps), -1)
            every = max(flat.shape[1] * len(self.images) // _SAMPLE, 1)
            self._vectors[name] = maps[(slice(None), *places.T)].T.copy(), flat[:, ::every].T.copy()
            self._spent += time.process_time() - start
        return self._vectors[name]

    def _of(self, image: LabelledImage) -> Maps:
        """Features of an image to predict."""
        key = f"{image.part.volume.path} {image.part.box} {image.part.time}"
        if key not in self._kept:
            self._kept[key] = self.features.of(image).astype(np.float16)
        return self._kept[key].astype(np.float32)


@dataclass
class EndToEnd:
    """The net of the embeddings with the same head, trained end to end: from nothing, or from the net of the contrast run."""

    config: StudyConfig
    seed: int
    folder: Path
    start: Embedded | None = None

    @property
    def prepared(self) -> float:
        return self.start.prepared if self.start else 0.0

    def looks(self, points: PointTable, number: int) -> Iterator[Look]:
        from lamella.recipe.head import load_head
        from lamella.recipe.train import train

        name = f"{'tuned' if self.start else 'scratch'}-{self.seed}-{number}"
        parent = f"{self.start.run.path}:last" if self.start else None
        table = self.folder / f"{name}.csv"
        write_points(table, points.taken(points.first(number)))
        recipe = scratch_recipe(self.config, self.seed, table)
        run, outcome = train(recipe, name, runs=self.folder, parent=parent, resume=True, judge=unless_abandoned)
        if outcome.reason == INTERRUPTED or outcome.interrupted:
            raise KeyboardInterrupt
        each = float(run.provenance()["cpu_seconds"]) / recipe.trainer.steps
        for step in range(recipe.trainer.keep_every or 1, recipe.trainer.steps + 1, recipe.trainer.keep_every or 1):
            predictor, _ = load_head(f"{run.path}:step_{step:07d}", device=recipe.trainer.device)
            yield Look(f"{step} steps", each * step, lambda image, p=predictor: _predicted(p, image))  # type: ignore[misc]


def _predicted(predictor: Any, image: LabelledImage) -> Maps:
    found: Maps = next(iter(predictor.maps(image.part).values()))
    return found if found.ndim == 4 else found[:, None]


@dataclass
class Trees:
    """A random forest."""

    config: StudyConfig
    seed: int
    images: Mapping[str, LabelledImage]
    prepared: float = 0.0

    def looks(self, points: PointTable, number: int) -> Iterator[Look]:
        points = points.taken(points.first(number))
        update = {"seed": self.seed, "ndim": self.config.ndim, "normaliser": normaliser_of(self.config)}
        start = time.process_time()
        forest = Forest(self.config.forest.model_copy(update=update), len(self.config.classes.names))
        arrays = {name: _raw(self.images[name]) for name in dict.fromkeys(points.images)}
        first = np.array([self.images[name].part.box.start for name in points.images])
        moved = PointTable(points.images, points.places - first, points.classes, True)
        forest.fit(arrays, moved)
        spent = time.process_time() - start
        yield Look(f"{forest.config.trees} trees", spent, lambda image: forest.maps(_raw(image))["classes"])


def _raw(image: LabelledImage) -> NDArray[Any]:
    """An image as it is stored, (c, z, y, x)."""
    return image.part.read(Box.of(image.part.box.shape))


def unless_abandoned(step: int, row: Mapping[str, float | str]) -> str | None:
    """Ends a training when the command that started this process has stopped."""
    return INTERRUPTED if abandoned() else None
