"""``lamella prep``: measure and prepare data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.core.errors import UserError
from lamella.prep.settings import StackSettings

_FLAT = Parameter(name="*")


def stacks(
    source: str,
    out: Path,
    *,
    also: list[str] | None = None,
    settings: Annotated[StackSettings, _FLAT] = StackSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
) -> None:
    """Sample random stacks of consecutive sections from a volume into an archive.

    Writes OUT (HDF5 for .h5, compressed OME-Zarr for .zarr; axes n z y x, the volume's type) and OUT.coords.json, the place of every
    stack. Blank and mostly missing stacks are drawn again. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella prep stacks volume.ome.zarr train.h5 --count 200 --depth 10 --size 1024 --mip 2
    lamella prep stacks volume.ome.zarr test.h5 --count 20 --test
    lamella prep stacks sections/ train.h5 --count 50 --z-train 0:160 --z-test 160:200 --seed 7
    lamella prep stacks volume.ome.zarr again.h5 --coords train.h5.coords.json
    ```

    Parameters
    ----------
    source
        Volume to draw from (FILE.h5/DATASET for one of several in a file).
    out
        Archive to write, ending in .h5 or .zarr.
    also
        Another volume to draw from; may be given several times. Larger volumes give more stacks.
    overwrite
        Replace an archive that exists.
    """
    from lamella.prep.stacks import prepare_stacks

    report = prepare_stacks([source, *(also or [])], out, settings, overwrite=overwrite, executor=executor)
    print(
        f"{out}: {report.total} stacks, {report.done} of them drawn now in {report.seconds:.1f} s; places in {out}.coords.json"
    )


def combine(
    *paths: str,
    append: bool = False,
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
) -> None:
    """Join several stack archives in one HDF5 file: SOURCE... OUT.

    Each archive becomes a data set named after its file. Archives are copied sample by sample; an interrupted command goes on when it
    is repeated.

    Examples
    --------
    ```
    lamella prep combine basil.h5 pinky.h5 minnie.h5 all.h5
    lamella prep combine monday.h5 tuesday.h5 week.h5 --append
    ```

    Parameters
    ----------
    paths
        Archives to join (FILE.h5/DATASET for one data set), then the file to write.
    append
        Put data sets of one shape of stack, type and mip into one, named after the first.
    overwrite
        Replace a file that exists.
    """
    from lamella.prep.combine import combine_archives

    if len(paths) < 2:
        raise UserError(f"{len(paths)} paths are too few; give the archives to join, then the file to write")
    counts = combine_archives(paths[:-1], paths[-1], append=append, overwrite=overwrite, executor=executor)
    for name, count in counts.items():
        print(f"{paths[-1]}: {name}, {count} stacks")


def meta(folder: Path, *, pattern: str | None = None, out: Path | None = None, overwrite: bool = False) -> None:
    """Make frames_meta.csv of a folder of frames from its files' names, or check the table that is there.

    Knows im_c***_z***_t***_p*** and img_CHANNEL_t***_p***_z***; say with --pattern how other files are named. Files that cannot be
    placed are named and left out. The folder can then be read as a volume for each position.

    Examples
    --------
    ```
    lamella prep meta frames/
    lamella prep meta scans/ --pattern '{channel}_pos{p}_z{z}_t{t}.tif'
    lamella prep meta scans/ --pattern '{sample}_{position}_{channel}.png' --out tables/frames_meta.csv
    ```

    Parameters
    ----------
    folder
        Folder that holds the frames.
    pattern
        How files are named: {c} {z} {t} {p} are numbers, {channel} {position} names, {} anything, other words become columns.
    out
        Table to write, for folders that cannot be written to [default: FOLDER/frames_meta.csv].
    overwrite
        Make the table anew where there is one.
    """
    from lamella.prep.meta import survey_frames

    found = survey_frames(folder, pattern, out=out, overwrite=overwrite)
    table = found.table
    times, slices = {f.t for f in table.frames}, {f.z for f in table.frames}
    print(
        f"{found.path}: {'made' if found.made else 'is sound'}, {len(table.frames)} frames, {len(table.positions)} positions, "
        f"{len(table.channels)} channels, {len(times)} times, {len(slices)} slices"
    )
    for line in found.gaps():
        print(line)
    for name in found.unplaced:
        print(f"not placed: {name}")
