"""How images are embedded: what is written, in which form, in blocks of which size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lamella.core.config import Config
from lamella.infer.settings import InferSettings, Precision


class EmbedSettings(Config):
    """What is written, and how volumes are cut."""

    dtype: Literal["float16", "float32"] = Field(
        "float16", description="numbers that are written; half as much on disk, with three digits, or all seven"
    )
    preview: Literal["pca", "umap", "none"] = Field(
        "pca", description="a picture of each image in colours: by principal components, by UMAP, or none"
    )
    channels: tuple[int, ...] | None = Field(
        None, min_length=1, description="channels of the images to take, counted from 0; as in training if not given"
    )
    block: int | None = Field(None, ge=16, description="side of a block in voxels (1024 in 2D, 96 in 3D)")
    skip_bad: bool = Field(False, description="go on without images that cannot be used, and name them")

    def size(self, ndim: int) -> tuple[int, int, int]:
        """Voxels of a block, z y x."""
        side = self.block or (1024 if ndim == 2 else 96)
        return (1 if ndim == 2 else side, side, side)


class NetSettings(InferSettings):
    """As for predicting, but exact: heads learn from small differences between embeddings."""

    precision: Precision = Field(
        "float32",
        description="numbers inside the net; auto: bfloat16 where the processor computes with it, faster, and right to a hundredth",
    )
