"""Classes: what a voxel is, told from labels, for points and for heads that learn classes.

Labels are whole numbers ``(*space)``, 0 background, each object its own number (for ``values``: each kind of thing its own).
Classes are int64, counted from 0; -1 is a voxel of none, which is neither drawn nor learnt.

| kind | classes |
|---|---|
| ``foreground`` | 0 background, 1 object |
| ``boundary`` | 0 background, 1 inside of an object, 2 boundary of an object |
| ``values`` | k for the k-th of the given values |
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.ops.targets import boundaries

Labels = NDArray[Any]
Known = NDArray[np.bool_]

NONE = -1  # of no class


class Foreground(Config):
    """Background and objects."""

    kind: Literal["foreground"] = "foreground"

    @property
    def names(self) -> tuple[str, ...]:
        return "background", "object"

    def __call__(self, labels: Labels, known: Known | None = None) -> NDArray[np.int64]:
        """Classes (*space) of labels (*space); none where ``known`` is False.

        >>> Foreground()(np.array([[0, 7, 7]]))
        array([[0, 1, 1]])
        """
        return _where(np.asarray(labels > 0, np.int64), known)


class Boundary(Config):
    """Background, the insides of objects, and their boundaries, with which objects that touch can be told apart."""

    kind: Literal["boundary"] = "boundary"
    thickness: int = Field(2, ge=2, multiple_of=2, description="voxels across a boundary, half on each side")

    @property
    def names(self) -> tuple[str, ...]:
        return "background", "object", "boundary"

    def __call__(self, labels: Labels, known: Known | None = None) -> NDArray[np.int64]:
        """Classes (*space) of labels (*space); none where ``known`` is False."""
        found = np.asarray(labels > 0, np.int64)
        found[boundaries(labels, self.thickness, known=known)] = 2
        return _where(found, known)


class Values(Config):
    """Labels that name kinds of things, such as membrane and mitochondrion."""

    kind: Literal["values"] = "values"
    values: tuple[int, ...] = Field(
        min_length=2, description="value of each class in the labels, in order of the classes"
    )

    @model_validator(mode="after")
    def _check(self) -> Values:
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"values {list(self.values)} name one value twice; give each class its own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"value {value}" for value in self.values)

    def __call__(self, labels: Labels, known: Known | None = None) -> NDArray[np.int64]:
        """Classes (*space) of labels (*space); none where ``known`` is False, and where the labels have other values."""
        found = np.full(labels.shape, NONE, np.int64)
        for number, value in enumerate(self.values):
            found[labels == value] = number
        return _where(found, known)


ClassesConfig = Annotated[Foreground | Boundary | Values, Field(discriminator="kind")]


def _where(classes: NDArray[np.int64], known: Known | None) -> NDArray[np.int64]:
    return classes if known is None else np.where(known, classes, NONE)
