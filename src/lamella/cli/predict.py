"""``lamella predict``: from images to instances with a trained run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.infer.settings import InferSettings
from lamella.tasks.segment.predict_settings import PredictSettings

_FLAT = Parameter(name="*")


@dataclass(frozen=True)
class Place:
    """What of the images is taken, and on which hardware."""

    mip: int = 0
    "Mip of volumes that have several."
    dataset: str | None = None
    "Which data set of a file that holds several."
    device: str = "auto"
    "auto (a GPU if there is one), cpu, cuda or cuda:1."
    runs: Path = Path("runs")
    "Folder that holds the runs."


def predict(
    run: str,
    *images: str,
    output: str,
    place: Annotated[Place, _FLAT] = Place(),
    settings: Annotated[PredictSettings, _FLAT] = PredictSettings(),  # noqa: B008 immutable
    net: Annotated[InferSettings, _FLAT] = InferSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Predict instances in images of any number and size with a trained run.

    The run's folder holds all that is needed: net, normalisation, thresholds. OUTPUT becomes a folder with an image of labels for
    each image (0 background, objects from 1), or, for one image, a file: NAME.ome.zarr, NAME.tif or NAME.png. Images larger than a
    block go block by block, and objects are stitched across blocks exactly. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella predict first cells/ --output predicted --plot
    lamella predict first:best_instances mosaic.ome.zarr --output mosaic.labels.ome.zarr --maps
    lamella predict first stack.tif --output stack.labels.tif --flat --flips
    lamella predict first cells/ --output predicted --format tif --skip-bad --dask local:4
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT.
    images
        Images, volumes of any format that ``lamella info`` reads, folders of images ("folder/*.tif" is one volume).
    output
        Folder to write, or for one image a file.
    overwrite
        Replace what an earlier prediction wrote there.
    """
    from lamella.core.errors import UserError

    if not images:
        raise UserError("no images are named; give a folder or files: lamella predict RUN IMAGES --output OUT")
    from lamella.core.memory import keep_freed_memory
    from lamella.data.inputs import find_images
    from lamella.recipe.segmenter import load_segmenter
    from lamella.tasks.segment.predict import predict_images

    keep_freed_memory()
    segmenter, facts = load_segmenter(run, net, device=place.device, runs=place.runs)
    found = find_images(
        images,
        segmenter,
        channels=settings.channels,
        dataset=place.dataset,
        mip=place.mip,
        skip_bad=settings.skip_bad,
    )
    done = predict_images(found, output, segmenter, settings, executor=executor, overwrite=overwrite, facts=facts)
    for line in done.left_out:
        print(f"left out: {line}", file=sys.stderr)
    objects = sum(row["objects"] for row in done.rows)
    print(f"{objects} objects in {len(done.rows)} image{'s' if len(done.rows) != 1 else ''}: {output}")
    if done.page:
        print(f"look at them in {done.page}")
