"""Small labelled images, and affinities of them, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.ops.affinities import affinities, nearest


def labelled(seed: int, shape: tuple[int, ...] = (48, 48)) -> NDArray[np.uint16]:
    """Bright balls on background, not touching."""
    rng, labels = np.random.default_rng(seed), np.zeros(shape, np.uint16)
    grid = np.indices(shape)
    for number in range(1, 6):
        margin = np.minimum(8, np.array(shape) / 2)
        centre = rng.uniform(margin, shape - margin)
        near = np.sqrt(((grid - centre.reshape(-1, *[1] * len(shape))) ** 2).sum(axis=0))
        if not labels[near < 9].any():
            labels[near < 6] = number
    return labels


def write_set(folder: Path, count: int = 2, shape: tuple[int, ...] = (48, 48), seed: int = 0) -> Path:
    """``folder`` with ``images/`` and ``labels/``."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        labels = labelled(seed + k, shape)
        image = np.random.default_rng(seed + k).normal(60, 5, shape) + 90 * (labels > 0)
        tifffile.imwrite(folder / "images" / f"i{seed + k}.tif", image.clip(0, 255).astype(np.uint8))
        tifffile.imwrite(folder / "labels" / f"i{seed + k}.tif", labels)
    return folder


def write_affinities(folder: Path, images: Path, noise: float = 0.0) -> Path:
    """A volume of affinities in ``folder`` for every image of ``images``."""
    for file in sorted((images / "labels").iterdir()):
        labels = tifffile.imread(file)
        found = affinities(labels, nearest(labels.ndim))[0].astype(np.float32)
        found = np.clip(found + np.random.default_rng(0).normal(0, noise, found.shape), 0, 1).astype(np.float32)
        axes = "cyx" if labels.ndim == 2 else "czyx"
        (volume,) = create_volume(
            folder / f"{file.stem}.ome.zarr", box=Box.of(found.shape), dtype="float32", meta=Meta.plain(axes)
        )
        volume.write(volume.box, found)
    return folder
