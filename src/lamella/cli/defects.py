"""``lamella defects``: from sections to masks of what is wrong with them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.cli.place import Place
from lamella.infer.settings import InferSettings
from lamella.tasks.defects.settings import FindSettings

_FLAT = Parameter(name="*")


def defects(
    run: str,
    source: str,
    out: str,
    *,
    place: Annotated[Place, _FLAT] = Place(),  # noqa: B008 immutable
    settings: Annotated[FindSettings, _FLAT] = FindSettings(),  # noqa: B008 immutable
    net: Annotated[InferSettings, _FLAT] = InferSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Find cracks, folds and covered or missing tissue in serial sections with a trained run.

    OUT gets masks on the voxels of the source, 0 normal, 1 near a defect, 2 inside one: what ``lamella train align`` and
    ``lamella align`` take as masks. Each section is looked at by itself; volumes of any size go block by block. A table of sections
    is written beside. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella defects finder sections/ masks.ome.zarr --plot
    lamella defects finder raw.ome.zarr masks.ome.zarr --mip 2 --min-size 500 --near 75
    lamella defects finder:last raw.ome.zarr masks.ome.zarr --fold 0.7 --maps --dask cluster.yaml
    ```

    Parameters
    ----------
    run
        Trained run of the task defects: RUN or RUN:CHECKPOINT.
    source
        Volume of sections, any format that ``lamella info`` reads.
    out
        Volume to write; its ending tells the format.
    overwrite
        Replace outputs that exist.
    """
    from lamella.core.box import parse_box
    from lamella.io import open_volume

    volume = open_volume(source, mip=place.mip, dataset=place.dataset)
    box = parse_box(place.bbox, volume.box) if place.bbox else None
    from lamella.recipe.detector import load_detector
    from lamella.tasks.defects.find import find_defects

    detector, facts = load_detector(run, settings, net, mip=place.mip, device=place.device, runs=place.runs)
    facts |= {"mip": place.mip, "dataset": place.dataset}
    found = find_defects(volume, out, detector, settings, box=box, executor=executor, overwrite=overwrite, facts=facts)
    count = int(found.rows[:, 4].sum())
    print(
        f"{count} defects in {len(found.rows)} sections: {found.inside:.2%} of all pixels inside, {found.near:.2%} near"
    )
    for path in (found.path, *found.beside, *((found.maps,) if found.maps else ())):
        print(path)
