"""``lamella align``: from raw sections to an aligned volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.cli.place import Place
from lamella.tasks.align.settings import AlignSettings

_FLAT = Parameter(name="*")


@dataclass(frozen=True)
class MaskedPlace(Place):
    """What of the source is aligned, from where, with which masks, and on which hardware."""

    coarse: str | None = None
    "Where sections lie roughly, as lamella prep coarse measured it; without bbox, all that they become is aligned."

    masks: str | None = None
    "Volume of masks on the voxels of the source, 0 normal, 1 near a defect, 2 inside, as lamella defects writes them."


def align(
    run: str,
    source: str,
    out: str,
    *,
    place: Annotated[MaskedPlace, _FLAT] = MaskedPlace(),
    settings: Annotated[AlignSettings, _FLAT] = AlignSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    misalignment: bool = False,
    overwrite: bool = False,
) -> None:
    """Align a volume of serial sections with a trained run.

    Each section is aligned to its aligned neighbour; the first stays where it is. OUT gets the aligned volume, and a volume of
    fields is written beside it (NAME.fields.ome.zarr: dy and dx in its own pixels, telling each aligned pixel where in the source to
    look). Memory follows the tile, not the section. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella align first sections/ aligned.ome.zarr
    lamella align first:best raw.ome.zarr aligned.ome.zarr --mip 2 --bbox 0:50,0:4096,0:4096
    lamella align first raw.ome.zarr aligned.ome.zarr --masks masks.ome.zarr
    lamella align first raw.ome.zarr aligned.ome.zarr --method joint --joint.neighbours 2
    lamella align first raw.ome.zarr aligned.ome.zarr --mip 2 --coarse coarse.json
    lamella align first raw.ome.zarr aligned.ome.zarr --chain 20 --decay 100 --dask cluster.yaml
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT.
    source
        Volume of sections, any format that ``lamella info`` reads.
    out
        Volume to write; its ending tells the format.
    misalignment
        Write a map of places that do not fit beside the aligned volume, as lamella evaluate misalignment does.
    overwrite
        Replace outputs that exist.
    """
    from lamella.core.box import parse_box
    from lamella.io import open_volume

    if misalignment:
        from lamella.cli.misalignment import misalignment as look
        from lamella.tasks.align.misalignment import goes_on
        from lamella.tasks.align.volume import misalignment_path

        if goes_on(misalignment_path(out), overwrite):
            print(f"{out} is aligned; its map of misalignment goes on")
            return look(out, misalignment_path(out), executor=executor)
    volume = open_volume(source, mip=place.mip, dataset=place.dataset)
    raw, placed = volume, None
    if place.coarse is not None:
        from lamella.io.coarse import open_placed

        volume = placed = open_placed(place.coarse, source, raw)
    box = parse_box(place.bbox, volume.box) if place.bbox else None
    from lamella.recipe.aligner import load_estimator
    from lamella.tasks.align.drift import told
    from lamella.tasks.align.masked import Masked, open_masks
    from lamella.tasks.align.volume import align_volume

    sections = volume
    if place.masks is not None:
        masks = open_masks(place.masks, raw, place.mip)
        sections = Masked(volume, masks if placed is None else placed.masks(masks))

    estimator, facts = load_estimator(run, settings, mip=place.mip, device=place.device, runs=place.runs)
    facts |= {"mip": place.mip, "dataset": place.dataset}
    paths = align_volume(
        sections, out, estimator, settings, box=box, executor=executor, overwrite=overwrite, facts=facts
    )
    print(f"aligned volume: {paths.aligned}\nfields: {paths.fields}")
    if paths.masks is not None:
        print(f"masks: {paths.masks}")
    print(told(paths.drift))
    where = "" if place.runs == Path("runs") else f" --runs {place.runs}"
    where += "" if place.coarse is None else f" --coarse {place.coarse}"
    print(
        f"score it with: lamella evaluate alignment {paths.aligned} scores --source {source} --fields {paths.fields} "
        f"--run {run}{where}"
    )
    if place.mip:
        where = "" if place.coarse is None else f" --coarse {place.coarse}"
        print(f"apply it to a finer mip with: lamella render {paths.fields} {source} OUT --mip {place.mip - 1}{where}")
    if misalignment:
        look(paths.aligned, misalignment_path(out), executor=executor, overwrite=overwrite)
