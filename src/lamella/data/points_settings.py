"""What ``lamella prep points`` is asked for; kept apart from the drawing, so that the command line loads no formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.io.pairs import Layout

if TYPE_CHECKING:
    from lamella.ops.classes import ClassesConfig

_TOTAL = 1000  # points where no number is given


class PointSettings(Config):
    """How many points of which classes, from which images."""

    classes: Literal["foreground", "boundary", "values"] = Field(
        "foreground",
        description="foreground: background 0, object 1; boundary: background 0, inside of an object 1, boundary 2; values: see there",
    )
    values: tuple[int, ...] | None = Field(
        None, description="with --classes values: the value of each class in the labels, in order of the classes"
    )
    thickness: int = Field(2, ge=2, multiple_of=2, description="voxels across a boundary, half on each side")
    total: int | None = Field(None, ge=2, description="points in all, over all images [default: 1000]")
    per_image: int | None = Field(None, ge=1, description="points in each image, instead of a total")
    per_object: int | None = Field(
        None, ge=1, description="points of each class in each object, instead of a total; and as much background"
    )
    balanced: bool = Field(True, description="as many points of each class; otherwise as often as classes occur")
    ndim: int = Field(2, ge=2, le=3, description="2: boundaries and regions in each section, 3: in the volume")
    seed: int = Field(0, ge=0, description="the same seed draws the same points")
    never: tuple[str, ...] = Field(
        (),
        description="images that are for validation or test: FILE.json:KEY, a text file of names, or a recipe or run with such images",
    )
    allow_held_out: bool = Field(False, description="draw also from folders that are named validation or test")

    @model_validator(mode="after")
    def _check(self) -> PointSettings:
        if sum(n is not None for n in (self.total, self.per_image, self.per_object)) > 1:
            raise ValueError("total, per_image and per_object are three ways to say how many points; give one of them")
        if (self.classes == "values") != (self.values is not None):
            raise ValueError(
                "classes 'values' and the list of values belong together, as in --classes values --values 0 --values 255"
            )
        if self.per_object is not None and self.classes == "values":
            raise ValueError(
                "per_object needs labels that number objects; with classes 'values' give total or per_image"
            )
        if self.values is not None:
            self.config()
        return self

    @property
    def number(self) -> int:
        """Points in all, where they are not counted by image or object."""
        return _TOTAL if self.total is None else self.total

    def config(self) -> ClassesConfig:
        """Which classes there are, and how they follow from labels."""
        from lamella.ops.classes import Boundary, Foreground, Values

        if self.classes == "values":
            return Values(values=self.values or ())
        return Boundary(thickness=self.thickness) if self.classes == "boundary" else Foreground()


class PointImages(Config):
    """Which images and labels of the source are taken, as in the sources of a recipe."""

    labels: str | None = Field(None, description="folder or file of the labels, where the layout leaves a choice")
    layout: Layout = Field("auto", description="auto, folders, suffixes, ctc, ome-zarr or files")
    names: str | None = Field(None, description="only these images: a text file of names, or FILE.json:KEY")
    components: bool = Field(False, description="the labels are masks: each connected region is an object")
    ignore: tuple[int, ...] = Field((), description="labels of regions that nobody annotated; no point lies there")
    dataset: str | None = Field(None, description="data set of the image in a file that holds several")
    mip: int = Field(0, ge=0, description="mip of images and labels; points are in its voxels")
    bbox: str | None = Field(None, description="part to draw from: START:STOP for y,x or z,y,x")
    z: str | None = Field(None, description="sections to draw from, START:STOP")
