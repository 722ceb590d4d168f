"""``lamella prep coarse``: where sections lie, roughly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.core.errors import UserError
from lamella.prep.coarse_settings import CoarseSettings

_FLAT = Parameter(name="*")


def coarse(
    source: str,
    out: Path,
    *,
    settings: Annotated[CoarseSettings, _FLAT] = CoarseSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Measure where serial sections lie, over any distance and angle, for lamella align to begin from.

    Each section is laid on the two before it at a high mip, and all are joined to the first. OUT (JSON) gets one transform for each
    section, in voxels of mip 0; a page beside it, OUT with .html, shows the stack before and after. An interrupted command goes on
    when it is repeated.

    Examples
    --------
    ```
    lamella prep coarse raw.ome.zarr coarse.json
    lamella prep coarse raw.ome.zarr coarse.json --mip 4 --model rigid --turn 20
    lamella prep coarse sections/ coarse.json --anchor middle
    lamella align first raw.ome.zarr aligned.ome.zarr --coarse coarse.json
    ```

    Parameters
    ----------
    source
        Volume of sections, any format that ``lamella info`` reads.
    out
        File to write, ending in .json.
    overwrite
        Replace a file that exists.
    """
    from lamella.prep.coarse import measure_coarse
    from lamella.view.coarse import summary, write_coarse_page

    if out.suffix != ".json":
        raise UserError(f"output {out} is a JSON file; give it a name that ends in .json")
    found = measure_coarse(source, out, settings, overwrite=overwrite, executor=executor)
    page = write_coarse_page(found, out.with_suffix(".html"))
    print(*summary(found), out, page, sep="\n")
