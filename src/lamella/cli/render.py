"""``lamella render``: apply an alignment to another mip, or to labels, masks and other images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.tasks.align.render_settings import RenderSettings

_FLAT = Parameter(name="*")


def render(
    fields: str,
    source: str,
    out: str,
    *,
    settings: Annotated[RenderSettings, _FLAT] = RenderSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Move a volume by the fields of an alignment: the source at a finer mip, or labels, masks and other images on its voxels.

    No run is needed. OUT gets all that was aligned, at the mip of SOURCE that is asked for; at the mip that was aligned, it is what
    ``lamella align`` wrote. How much finer a mip is than the fields is told by the sizes of its voxels. Memory is that of a few blocks.
    An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella render aligned.fields.ome.zarr raw.ome.zarr fine.ome.zarr --mip 0
    lamella render aligned.fields.ome.zarr cells.ome.zarr aligned_cells.ome.zarr --labels
    lamella render aligned.fields.ome.zarr masks.ome.zarr aligned_masks.ome.zarr --mip 1 --masks
    lamella render aligned.fields.ome.zarr gfp.ome.zarr aligned_gfp.ome.zarr --other --bbox 0:50,0:4096,0:4096
    lamella render aligned.fields.ome.zarr raw.ome.zarr fine.ome.zarr --coarse coarse.json --dask cluster.yaml
    ```

    Parameters
    ----------
    fields
        Fields that ``lamella align`` wrote beside its output, NAME.fields.ome.zarr.
    source
        Volume that was aligned, or one on its voxels; any format that ``lamella info`` reads.
    out
        Volume to write; its ending tells the format.
    overwrite
        Replace an output that exists.
    """
    from lamella.tasks.align.render import render as show

    report = show(fields, source, out, settings, overwrite=overwrite, executor=executor)
    print(f"{out}: {report.done} blocks now in {report.seconds:.1f} s")
