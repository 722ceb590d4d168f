"""``lamella embed``: from images to embeddings with a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.recipe.predict_options import Place
from lamella.tasks.contrast.embed_settings import EmbedSettings, NetSettings

_FLAT = Parameter(name="*")


def embed(
    run: str,
    source: str,
    output: Path,
    *,
    place: Annotated[Place, _FLAT] = Place(),  # noqa: B008 immutable
    settings: Annotated[EmbedSettings, _FLAT] = EmbedSettings(),  # noqa: B008 immutable
    net: Annotated[NetSettings, _FLAT] = NetSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Embed images of any number and size with a trained contrast run.

    Every voxel gets a vector of the run's h_channels, which tells it from places that look otherwise. OUTPUT is an OME-Zarr for one
    image or volume, NAME.ome.zarr, with axes c z y x, or a folder with one for each image of a folder. Each says which checkpoint
    it is of. Images of any size go block by block, and equal what they would be in one. An interrupted command goes on when it is
    repeated.

    Examples
    --------
    ```
    lamella embed first cells/ embedded
    lamella embed first:last stack.tif stack.embeddings.ome.zarr --dtype float32
    lamella embed first mosaic.ome.zarr mosaic.embeddings.ome.zarr --preview none --dask local:4
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT.
    source
        An image, a volume of any format that ``lamella info`` reads, or a folder of images ("folder/*.tif" is one volume).
    output
        Volume to write, ending in .ome.zarr, or for several images a folder.
    overwrite
        Replace what an earlier command wrote there.
    """
    from lamella.data.inputs import find_images
    from lamella.recipe.embedder import load_embedder
    from lamella.tasks.contrast.embed import embed_images
    from lamella.tasks.contrast.embed_preview import check_preview

    check_preview(settings.preview)
    embedder, facts = load_embedder(run, net, device=place.device, runs=place.runs)
    found = find_images(
        [source],
        embedder,
        channels=settings.channels,
        dataset=place.dataset,
        mip=place.mip,
        skip_bad=settings.skip_bad,
    )
    done = embed_images(found, str(output), embedder, settings, executor=executor, overwrite=overwrite, facts=facts)
    for line in done.left_out:
        print(f"left out: {line}", file=sys.stderr)
    count = f"{len(done.volumes)} images" if len(done.volumes) != 1 else "one image"
    print(f"embeddings of {count}, {embedder.net.h_channels} channels of {settings.dtype}: {output}")
    if done.previews:
        where = done.previews[0] if len(done.previews) == 1 else done.previews[0].parent
        print(f"look at them in {where}")
