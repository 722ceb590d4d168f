"""``lamella demo``: the main job from beginning to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.recipe.demo_settings import DemoSettings

_FLAT = Parameter(name="*")


def demo(
    *,
    out: Path = Path("demo"),
    settings: Annotated[DemoSettings, _FLAT] = DemoSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Train, align and score a synthetic stack (or a folder of yours), with a report.

    Makes serial sections of synthetic tissue whose deformations are known, trains an aligner on them from scratch, aligns the whole
    stack, scores it before and after, and writes one page with pictures and curves. An interrupted demonstration goes on when it
    is repeated.

    Examples
    --------
    ```
    lamella demo
    lamella demo --data sections/ --out mine
    lamella demo --sections 30 --size 768 --steps 3000 --seed 1
    ```

    Parameters
    ----------
    out
        Folder for everything that is made.
    overwrite
        Replace a demonstration that is there.
    """
    from rich.console import Console
    from rich.table import Table

    from lamella.recipe.demo import run_demo
    from lamella.recipe.demo_report import COMMANDS
    from lamella.tasks.align.evaluation_report import headlines

    done, found = run_demo(out, settings, overwrite=overwrite)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for figure in headlines(found):
        table.add_row(figure.name, f"[bold]{figure.value}[/bold]", figure.note)
    table.add_row("time", f"[bold]{sum(done.seconds.values()) / 60:.1f} min[/bold]", "")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nreport: [bold]{done.report}[/bold]\n\nWith your own sections:", soft_wrap=True)
    console.print(COMMANDS, markup=False, soft_wrap=True)
