"""Embeddings in colours, beside the image: places that a net finds alike get like colours.

With ``pca`` red, green and blue are the first three principal components, fitted once on a sample of all that was embedded, so that
a colour means the same in every picture; what was fitted is kept beside. With ``umap`` they are three dimensions in which
neighbours of the sample stay neighbours (McInnes et al. 2018): finer, but without meaning from one command to the next.

A picture shows the middle section, or the middle 1024 pixels of it where it is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_json
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.core.volume import Volume
from lamella.data.image_source import Part
from lamella.data.inputs import Item
from lamella.data.outputs import Outputs
from lamella.io.statistics import sample_voxels
from lamella.ops.principal import principal
from lamella.view import pictures
from lamella.view.pictures import Picture

Preview = Literal["pca", "umap", "none"]
Colours = Callable[[NDArray[Any]], Picture]

_SAMPLE = 20_000  # embeddings that components are fitted on
_NEIGHBOURS = 3_000  # embeddings that UMAP is fitted on, and ...
_SIDE = {"pca": 1024, "umap": 160}  # ... pixels along a side of what it then colours, at a few thousand a second
_IMAGES = 64  # images that the sample is taken from
_VOXELS = 1 << 19  # voxels that are read of each for it


def check_preview(preview: Preview) -> None:
    """Refuse UMAP where it is not installed, before anything is embedded."""
    if preview == "umap":
        try:
            import umap  # noqa: F401
        except ImportError:
            raise UserError("UMAP is not installed; install lamella[umap], or use --preview pca") from None


def write_previews(volumes: Sequence[tuple[Item, Volume]], outputs: Outputs, preview: Preview) -> list[Path]:
    """The pictures of all images; returns where they are."""
    if preview == "none":
        return []
    sample = _sample([volume for _, volume in volumes])
    colours = _components(sample, outputs.beside("components.json")) if preview == "pca" else _umap(sample)
    written = []
    with progress("drawing previews", len(volumes), "images") as meter:
        for item, volume in volumes:
            path = _path(outputs, item)
            with replacing(path) as beside:
                beside.write_bytes(pictures.png(_picture(item, volume, colours, _SIDE[preview])))
            written.append(path)
            meter.advance()
    return written


def _path(outputs: Outputs, item: Item) -> Path:
    return outputs.beside("preview.png") if outputs.single else Path(outputs.out) / "previews" / f"{item.name}.png"


def _sample(volumes: Sequence[Volume]) -> NDArray[np.float32]:
    """Embeddings (n, c) of places all over the volumes."""
    chosen = volumes[:: ceil(len(volumes) / _IMAGES)]
    found = []
    for k, volume in enumerate(chosen):
        voxels = sample_voxels(volume, limit=_VOXELS)
        few = stream(0, "preview", k).permutation(voxels.shape[1])[: ceil(_SAMPLE / len(chosen))]
        found.append(voxels[:, few].T.astype(np.float32))
    return np.concatenate(found)


def _components(sample: NDArray[np.float32], path: Path) -> Colours:
    fitted = principal(sample)
    write_json(path, fitted.to_dict())
    return fitted.colours


def _umap(sample: NDArray[np.float32]) -> Colours:
    import umap

    few = sample[stream(0, "umap").permutation(len(sample))[:_NEIGHBOURS]]
    fitted = umap.UMAP(n_components=3, random_state=0, n_jobs=1).fit(few)
    spread = principal(fitted.embedding_)  # turned and stretched, so that colours are used to the full

    def colours(embeddings: NDArray[Any]) -> Picture:
        found = fitted.transform(embeddings.reshape(len(embeddings), -1).T.astype(np.float32))
        return spread.colours(found.T.reshape(3, *embeddings.shape[1:]))

    return colours


def _picture(item: Item, volume: Volume, colours: Colours, side: int) -> Picture:
    """The image beside its embeddings in colours."""
    z, y, x = item.shape
    height, width = min(y, _SIDE["pca"]), min(x, _SIDE["pca"])
    middle = Box((z // 2, (y - height) // 2, (x - width) // 2), (z // 2 + 1, (y + height) // 2, (x + width) // 2))
    time = 0 if "t" in volume.meta.axes else None
    embeddings = Part(volume, Box.of(item.shape), time).read(middle)[:, 0]
    step = ceil(max(height, width) / side)
    shown = colours(embeddings[:, ::step, ::step]).repeat(step, 0).repeat(step, 1)[:height, :width]
    image = item.parts[0].read(middle)
    return pictures.beside([pictures.grey(image[len(image) // 2, 0], missing=None), shown])
