"""``lamella predict``: from images to what a trained run makes of them."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.infer.settings import InferSettings
from lamella.recipe.predict_options import Place, PredictOptions, Request

_FLAT = Parameter(name="*")


def predict(
    run: str,
    *images: str,
    output: str,
    place: Annotated[Place, _FLAT] = Place(),  # noqa: B008 immutable
    options: Annotated[PredictOptions, _FLAT] = PredictOptions(),  # noqa: B008 immutable
    net: Annotated[InferSettings, _FLAT] = InferSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Predict images of any number and size with a trained run, by its task: instances, or other channels.

    The run's folder holds all that is needed: net, normalisation, thresholds. A segment run gives an image of labels for each image
    (0 background, objects from 1), a translate run gives the channels that it learnt, in units of intensity, for each position of
    frames, of a plate, or for each image. OUTPUT is a folder, or, for one image, a file: NAME.ome.zarr, NAME.tif or NAME.png. Images
    larger than a block go block by block, without seams. An interrupted command goes on when it is repeated. Options that mean
    nothing to the run's task are refused.

    Examples
    --------
    ```
    lamella predict first cells/ --output predicted --plot
    lamella predict first:best_instances mosaic.ome.zarr --output mosaic.labels.ome.zarr --maps
    lamella predict first stack.tif --output stack.labels.tif --flat --flips
    lamella predict first cells/ --output predicted --format tif --skip-bad --dask local:4
    lamella predict stains frames/ --output stained --plot
    lamella predict stain0,stain1,stain2 frames/ --output stained --flips
    lamella predict stains plate.ome.zarr --output stained.ome.zarr --positions A/1/0 --statistics source --flips
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT; or several, RUN,RUN,RUN, whose outputs are averaged (segment, translate).
    images
        Images, volumes of any format that ``lamella info`` reads, folders of images ("folder/*.tif" is one volume).
    output
        Folder to write, or for one image a file.
    overwrite
        Replace what an earlier prediction wrote there.
    """
    from lamella.recipe.predictors import predict as predict_with

    told = predict_with(Request(run, images, output, place, options, net, executor, overwrite))
    for line in told.left_out:
        print(f"left out: {line}", file=sys.stderr)
    for line in told.lines:
        print(line)
