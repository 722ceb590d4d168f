"""``lamella prep`` for frames: shading, resizing, masks, statistics, tiles, and all of them from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.prep.frame_settings import (
    MaskSettings,
    ResizeSettings,
    Selection,
    ShadingSettings,
    StatisticsSettings,
    TileSettings,
)

_FLAT = Parameter(name="*")
_SHADING, _RESIZE, _MASKS, _STATISTICS, _TILES = (
    ShadingSettings(),
    ResizeSettings(),
    MaskSettings(),
    StatisticsSettings(),
    TileSettings(),
)
_ALL, _HERE = Selection(), Executor()


def shading(
    source: str,
    out: Path,
    *,
    settings: Annotated[ShadingSettings, _FLAT] = _SHADING,
    select: Annotated[Selection, _FLAT] = _ALL,
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = _HERE,
) -> None:
    """Measure how unevenly each channel is lit, over all positions.

    The shading is kept in OUT/shading.json and applied whenever images are read with what OUT holds; nothing is copied. The picture
    OUT/previews/shading.png shows it with a frame before and after.

    Examples
    --------
    ```
    lamella prep shading frames/ frames.prep
    lamella prep shading frames/ frames.prep --channels DAPI --method polynomial --offset 100
    lamella prep shading plate.ome.zarr plate.prep --frames all --dask local:4
    ```

    Parameters
    ----------
    source
        Folder of frames, plate or volume.
    out
        Folder for what is measured.
    overwrite
        Measure again; what was measured after it is removed too.
    """
    from lamella.prep.shading import measure_shading

    found = measure_shading(source, out, settings, select, overwrite=overwrite, executor=executor)
    for channel, field in (found or {}).items():
        low, high = float(field.field().min()), float(field.field().max())
        print(f"channel {channel}: shading from {low:.3f} to {high:.3f} of its mean")
    _close(source, out, "shading", found is not None)


def resize(
    source: str,
    out: Path,
    *,
    settings: Annotated[ResizeSettings, _FLAT] = _RESIZE,
    select: Annotated[Selection, _FLAT] = _ALL,
    overwrite: bool = False,
) -> None:
    """Keep the factors by which images are resized when they are read.

    Examples
    --------
    ```
    lamella prep resize frames/ frames.prep --yx 0.5
    lamella prep resize stacks.ome.zarr stacks.prep --yx 0.5 --z 2
    ```

    Parameters
    ----------
    source
        Folder of frames, plate or volume.
    out
        Folder for what is measured.
    overwrite
        Replace factors that were kept; what was measured after them is removed.
    """
    from lamella.prep.pipeline import set_resize

    _close(source, out, "resize", set_resize(source, out, settings, select, overwrite=overwrite) is not None)


def masks(
    source: str,
    out: Path,
    *,
    settings: Annotated[MaskSettings, _FLAT] = _MASKS,
    select: Annotated[Selection, _FLAT] = _ALL,
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = _HERE,
) -> None:
    """Find where the specimen is: a mask for each frame, and border weight maps if asked for.

    Writes OUT/masks/POSITION.ome.zarr, OUT/foreground.csv with the share of foreground of each frame, and a preview.

    Examples
    --------
    ```
    lamella prep masks frames/ frames.prep --channels DAPI --channels MAP2
    lamella prep masks frames/ frames.prep --channels 1 --method unimodal --scope dataset --weights
    lamella prep masks frames/ frames.prep --masks drawn/ --overwrite
    ```

    Parameters
    ----------
    source
        Folder of frames, plate or volume.
    out
        Folder for what is measured.
    overwrite
        Make masks again; what was measured after them is removed.
    """
    from lamella.prep.foreground import make_masks

    found = make_masks(source, out, settings, select, overwrite=overwrite, executor=executor)
    if found is not None:
        shares = list(found.fractions.values())
        print(f"{len(shares)} masks, foreground from {min(shares):.1%} to {max(shares):.1%} of a frame")
    _close(source, out, "masks", found is not None)


def statistics(
    source: str,
    out: Path,
    *,
    settings: Annotated[StatisticsSettings, _FLAT] = _STATISTICS,
    select: Annotated[Selection, _FLAT] = _ALL,
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = _HERE,
) -> None:
    """Measure centre and spread of intensities, by which images are normalised when they are read, and predictions restored.

    Examples
    --------
    ```
    lamella prep statistics frames/ frames.prep
    lamella prep statistics frames/ frames.prep --level volume --centre mean --clip 2 98
    lamella prep statistics frames/ frames.prep --foreground --min-fraction 0.1
    ```

    Parameters
    ----------
    source
        Folder of frames, plate or volume.
    out
        Folder for what is measured.
    overwrite
        Measure again; tiles that were cut by it are removed.
    """
    from lamella.prep.statistics import measure_statistics

    found = measure_statistics(source, out, settings, select, overwrite=overwrite, executor=executor)
    for group in found.groups if found else ():
        if group.key[1:] == (None, None, None):
            print(f"channel {group.channel}: centre {group.centre:.6g}, spread {group.spread:.6g}")
    _close(source, out, "statistics", found is not None)


def tiles(
    source: str,
    out: Path,
    *,
    settings: Annotated[TileSettings, _FLAT] = _TILES,
    select: Annotated[Selection, _FLAT] = _ALL,
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = _HERE,
) -> None:
    """Choose tiles and cut them into an archive; with --no-write only the rule is kept, and training cuts them as it goes.

    Writes OUT/tiles.h5 (a data set n z y x for each channel), OUT/tiles.csv and a preview.

    Examples
    --------
    ```
    lamella prep tiles frames/ frames.prep --size 256 256 --step 128 128
    lamella prep tiles frames/ frames.prep --size 256 256 --min-fraction 0.2 --no-write
    ```

    Parameters
    ----------
    source
        Folder of frames, plate or volume.
    out
        Folder for what is measured.
    overwrite
        Cut again.
    """
    from lamella.prep.tiles import make_tiles

    found = make_tiles(source, out, settings, select, overwrite=overwrite, executor=executor)
    if found is not None:
        print(f"{len(found)} tiles of {len({t.position for t in found})} positions")
    _close(source, out, "tiles", found is not None)


def run(config: Path, *, overwrite: bool = False, executor: Annotated[Executor, _FLAT] = _HERE) -> None:
    """Do all of the preprocessing that a config names, in order; what was done before is passed over.

    An interrupted command goes on when it is repeated, and ends with the same bytes.

    Examples
    --------
    ```
    lamella prep run prep.yaml
    lamella prep run prep.yaml --workers 8
    ```

    Parameters
    ----------
    config
        YAML file with source, out and a section for each stage: shading, resize, masks, statistics, tiles.
    overwrite
        Measure again what was measured with other settings.
    """
    from lamella.prep.pipeline import read_config, run_prep

    asked = read_config(config)
    for stage, now in run_prep(asked, overwrite=overwrite, executor=executor):
        _close(asked.source, Path(asked.out), stage, now)


def _close(source: str, out: Path, stage: str, now: bool) -> None:
    """Say what is done, and draw it if that is new."""
    from lamella.view.preprocessing import write_preview

    preview = out / "previews" / f"{stage}.png"
    if now or not preview.exists():
        write_preview(source, out, stage)
    print(f"{out}: {stage} done{'' if now else ' before'}; see {preview}")
