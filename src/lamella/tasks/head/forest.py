"""The baseline that people use for sparse labels: a random forest on features of several scales, as ilastik has it.

Features are those of scikit-image: at each scale the smoothed intensity, the strength of edges, and the eigenvalues of the Hessian
(Berg et al. 2019, ilastik: interactive machine learning for (bio)image analysis; Breiman 2001, Random forests). The same points go in
and the same class probabilities come out as of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from skimage.feature import multiscale_basic_features

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.points_table import PointTable, check_inside
from lamella.ops.intensity import IntensityConfig, Percentile
from lamella.tasks.head.fit import check_classes


class ForestConfig(Config):
    """Which features, and how many trees."""

    kind: Literal["forest"] = "forest"
    ndim: Literal[2, 3] = Field(2, description="2: features within each section, also of a stack; 3: of the volume")
    sigma_min: float = Field(0.7, gt=0, description="finest scale, voxels; the others are its doubles")
    sigma_max: float = Field(11.2, gt=0, description="coarsest scale, voxels")
    trees: int = Field(100, ge=1, description="trees of the forest")
    leaf: int = Field(1, ge=1, description="fewest points of a leaf; more give smoother probabilities")
    normaliser: IntensityConfig = Field(Percentile(), description="how intensities are scaled, as for nets")
    seed: int = Field(0, ge=0, description="of the trees")

    @model_validator(mode="after")
    def _check(self) -> ForestConfig:
        if self.sigma_max < self.sigma_min:
            raise ValueError(
                f"sigma_max {self.sigma_max} is below sigma_min {self.sigma_min}; give the coarser scale there"
            )
        return self

    def build(self, num_classes: int = 2) -> Forest:
        return Forest(self, num_classes)


class Forest:
    """A random forest over features of images; ``fit`` before ``maps``."""

    def __init__(self, config: ForestConfig = ForestConfig(), num_classes: int = 2) -> None:  # noqa: B008 immutable
        self.config, self.num_classes = config, num_classes
        self._forest: Any = None

    def fit(self, images: Mapping[str, NDArray[Any]], points: PointTable) -> Forest:
        """Train on the points of ``images``, by name: arrays y x, z y x, or c z y x where there are several channels.

        Raises UserError for points outside their images, of one class only, or of more classes than ``num_classes``.
        """
        classifier = _classifier()
        check_inside(points, {name: self._space(image) for name, image in images.items()}, "the points")
        check_classes(points.classes, self.num_classes)
        features = np.concatenate([self._at(images[name], points, name) for name in dict.fromkeys(points.images)])
        order = np.concatenate([points.of(name) for name in dict.fromkeys(points.images)])
        seed = int(stream(self.config.seed, "forest").integers(2**31))
        forest = classifier(self.config.trees, min_samples_leaf=self.config.leaf, random_state=seed)
        self._forest = forest.fit(features, points.classes[order])
        return self

    def maps(self, image: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """``classes``: probabilities (k, *space) of an image y x, z y x or c z y x, which add up to 1; without c."""
        if self._forest is None:
            raise UserError("the forest was not trained yet; call fit with images and points")
        z, y, x = self._space(image)
        found = np.zeros((self.num_classes, z, y, x), np.float32)
        for section, features in self._features(image):
            told = self._forest.predict_proba(features.reshape(-1, features.shape[-1]))
            for column, k in enumerate(self._forest.classes_):
                found[k, section] = told[:, column].reshape(features.shape[:-1])
        return {"classes": found if self._has_z(image) else found[:, 0]}

    def _at(self, image: NDArray[Any], points: PointTable, name: str) -> NDArray[np.float32]:
        """Features (n, f) at the points of one image."""
        places = np.floor(points.places[points.of(name)] + 0.5).astype(np.int64)
        found: NDArray[np.float32] | None = None
        wanted = None if self.config.ndim == 3 else set(places[:, 0].tolist())
        for section, features in self._features(image, wanted):
            here = np.ones(len(places), bool) if isinstance(section, slice) else places[:, 0] == section
            index = places[here] if self.config.ndim == 3 else places[here, 1:]
            found = np.zeros((len(places), features.shape[-1]), np.float32) if found is None else found
            found[here] = features[tuple(index.T)]
        assert found is not None
        return found

    def _features(self, image: NDArray[Any], sections: set[int] | None = None) -> Any:
        """Features (*space, f) of the volume, or of each section by itself, with its number."""
        stack = self._stack(image)
        scaled = self.config.normaliser.measure(stack)(stack)
        chosen: list[Any] = [slice(None)]
        if self.config.ndim == 2:
            chosen = [z for z in range(stack.shape[1]) if sections is None or z in sections]
        for section in chosen:
            yield (
                section,
                multiscale_basic_features(
                    scaled[:, section], sigma_min=self.config.sigma_min, sigma_max=self.config.sigma_max, channel_axis=0
                ),
            )

    def _stack(self, image: NDArray[Any]) -> NDArray[Any]:
        """An image as (c, z, y, x)."""
        if self.config.ndim == 3:
            if image.ndim not in (3, 4):
                raise UserError(f"an image of shape {image.shape} must have the axes z y x or c z y x")
            return image if image.ndim == 4 else image[None]
        if image.ndim not in (2, 3, 4):
            raise UserError(f"an image of shape {image.shape} must have the axes y x, z y x or c z y x")
        return image if image.ndim == 4 else image.reshape(1, -1, *image.shape[-2:])

    def _space(self, image: NDArray[Any]) -> tuple[int, int, int]:
        z, y, x = self._stack(image).shape[1:]
        return z, y, x

    @staticmethod
    def _has_z(image: NDArray[Any]) -> bool:
        return image.ndim > 2


def _classifier() -> Any:
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise UserError("random forests need scikit-learn, which is not installed; install lamella[forest]") from None
    return RandomForestClassifier
