"""``lamella inspect``: what a trained net sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.tasks.align.inspect_settings import InspectSettings

_FLAT = Parameter(name="*")


def inspect(
    run: str,
    source: str | None = None,
    *,
    out: Path | None = None,
    settings: Annotated[InspectSettings, _FLAT] = InspectSettings(),  # noqa: B008 immutable
    runs: Path = Path("runs"),
    overwrite: bool = False,
) -> None:
    """Show a run's encodings and fields as pictures.

    Aligns one section to the one before it and shows, for every level of the net: the encodings, the field coarse to fine, and how well
    the encodings fit before and after. Tells a net that has learnt from one that has not. Writes pictures, levels.csv and report.html,
    one page that holds all of them.

    Examples
    --------
    ```
    lamella inspect first
    lamella inspect first:best sections/ --z 12 --centre 900,1400 --size 768
    lamella inspect first volume.ome.zarr --mip 2 --bbox 0:512,512:1024 --out look
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT.
    source
        Volume, archive or folder of sections; what the run was trained on if left out.
    out
        Folder for the pictures; ``inspect`` in the run's folder if left out.
    runs
        Folder that holds the runs.
    overwrite
        Replace a folder that exists.
    """
    from lamella.core.files import refuse_existing
    from lamella.recipe.find import open_checkpoint

    folder, _ = open_checkpoint(run, runs)
    out = out or folder.path / "inspect"
    refuse_existing(out, overwrite=overwrite)
    from lamella.recipe.aligner import inspect_run

    report, lines = inspect_run(run, source, out, settings, runs=runs, overwrite=overwrite)
    print("\n".join(lines))
    print(f"report: {report}")
