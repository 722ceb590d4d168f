"""``lamella evaluate misalignment``: where an aligned volume does not fit."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.tasks.align.misalignment_settings import MisalignmentSettings

_FLAT = Parameter(name="*")


def misalignment(
    aligned: str,
    out: str,
    *,
    settings: Annotated[MisalignmentSettings, _FLAT] = MisalignmentSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Map where neighbouring sections of an aligned volume do not fit, and list the worst places.

    OUT gets a volume of bytes, 8 pixels coarser in y and x: 0 no data, otherwise 1 + 254 times the misfit, the share of a place's
    variance that moving it would explain. Beside it go OUT.pairs.csv, OUT.places.csv and a page, OUT.html (OUT without its ending).
    An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella evaluate misalignment aligned.ome.zarr aligned.misalignment.ome.zarr
    lamella evaluate misalignment aligned.ome.zarr wide.ome.zarr --reach 32 --window 96
    lamella align first raw.ome.zarr aligned.ome.zarr --misalignment
    ```

    Parameters
    ----------
    aligned
        The aligned volume (z y x).
    out
        Volume to write, ending in .ome.zarr.
    overwrite
        Replace outputs that exist.
    """
    from lamella.tasks.align.misalignment import measure_misalignment, tables_beside
    from lamella.tasks.align.misalignment_report import headlines, write_misalignment_page

    found = measure_misalignment(aligned, out, settings, executor=executor, overwrite=overwrite)
    page = write_misalignment_page(found, aligned, settings)
    for figure in headlines(found):
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    print(out, *tables_beside(out), page, sep="\n")
