"""``lamella convert``: copy a volume into another format."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.prep.convert_settings import ConvertSettings

_FLAT = Parameter(name="*")


def convert(
    source: str,
    target: str,
    *,
    settings: Annotated[ConvertSettings, _FLAT] = ConvertSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
) -> None:
    """Copy a volume into another format, block by block, with mips.

    Coordinates, axes, voxel size, units and channel names are kept; how the copy was made is stored in it. Any format is read and
    any is written: OME-Zarr (.zarr), N5 (.n5), precomputed (precomputed://PATH), HDF5 (.h5), TIFF stacks (.tif) and folders of
    sections ('out/*.png', 'out/*.tif'). Memory stays the same however large the volume is. An interrupted command goes on when it is
    repeated.

    Examples
    --------
    ```
    lamella convert sections/ volume.ome.zarr --voxel-size 50,4,4 --unit nm --mips 5 --ignore-zero
    lamella convert labels.tif labels.ome.zarr --labels --mips 4
    lamella convert volume.ome.zarr part.tif --bbox 0:20,1000:2000,1000:2000
    lamella convert scan.tif scan.ome.zarr --dtype uint8 --window 800,4200 --chunk 64,256,256
    lamella convert volume.zarr precomputed://gs://bucket/volume --mips 6 --dask cluster.yaml
    lamella convert stacks.h5 stack3.ome.zarr --sample 3
    ```

    Parameters
    ----------
    source
        Volume to copy (FILE.h5/DATASET for one of several in a file).
    target
        Volume to write; its ending tells the format.
    overwrite
        Replace a volume that exists.
    """
    from lamella.prep.convert import convert as copy

    reports = copy(source, target, settings, overwrite=overwrite, executor=executor)
    seconds, done = sum(r.seconds for r in reports), sum(r.done for r in reports)
    print(f"{target}: {settings.mips} {'mip' if settings.mips == 1 else 'mips'}, {done} blocks now in {seconds:.1f} s")
