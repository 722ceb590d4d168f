"""``lamella prep points``: a few labelled points to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.data.points_settings import PointImages, PointSettings

_FLAT = Parameter(name="*")


def points(
    source: str,
    out: Path,
    *,
    settings: Annotated[PointSettings, _FLAT] = PointSettings(),  # noqa: B008 immutable
    images: Annotated[PointImages, _FLAT] = PointImages(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Draw points with classes from labelled images, to train a head on.

    Points are drawn by chance and without replacement, in whole voxels: in all, per image or per object, as many of each class unless
    --no-balanced. Images that are for validation or test are refused: folders named val or test, names under such keys in a split file
    beside the images, and what --never names. OUT is a CSV file (image, axes, class); what made it is in OUT with .json.

    Examples
    --------
    ```
    lamella prep points cells/train points.csv --total 200
    lamella prep points cells/train points.csv --classes boundary --per-image 30 --never runs/first
    lamella prep points cells/ points.csv --names split.json:train --per-object 2 --seed 7
    lamella prep points stack.ome.zarr points.csv --labels neurons --ndim 3 --z 0:15 --total 100
    ```

    Parameters
    ----------
    source
        Labelled images: a folder with images/ and labels/, or any other layout that recipes take.
    out
        CSV file to write.
    overwrite
        Replace a file that exists.
    """
    from lamella.data.points_draw import prepare_points

    table = prepare_points(source, out, images, settings, overwrite=overwrite)
    names = settings.config().names
    told = ", ".join(f"{int((table.classes == k).sum())} {name}" for k, name in enumerate(names))
    print(f"{out}: {len(table)} points in {len(set(table.images))} images: {told}")
