"""``lamella demo``: a task from beginning to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lamella.recipe.demo_settings import DemoSettings

if TYPE_CHECKING:
    from lamella.recipe.demonstration import Demonstration
    from lamella.view.report import Headline

_FLAT = Parameter(name="*")


def demo(
    task: Literal["align", "segment", "contrast", "translate"] = "align",
    /,
    *,
    out: Path | None = None,
    settings: Annotated[DemoSettings, _FLAT] = DemoSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Train, use and score a net on synthetic images (or on yours), with a report.

    align makes serial sections of synthetic tissue whose deformations are known, trains an aligner on them from scratch, aligns the
    whole stack, and scores it before and after. segment makes images of synthetic nuclei whose outlines are known, trains a net
    to find them, and scores it on other images beside a threshold with a watershed. contrast trains a net on such images without
    labels, a head on its embeddings from a hundred points, and scores it beside a net trained from the points alone, a head on
    pixels and a random forest. translate makes synthetic cells in transmitted light and two stains, trains a net to give the stains
    from the light, and scores it on other positions beside a regression on filters. Each writes one page with pictures and curves.
    An interrupted demonstration goes on when it is repeated.

    Examples
    --------
    ```
    lamella demo
    lamella demo --data sections/ --out mine
    lamella demo --sections 30 --size 768 --steps 3000 --seed 1
    lamella demo segment
    lamella demo segment --data cells/ --out mine
    lamella demo contrast
    lamella demo translate
    ```

    Parameters
    ----------
    task
        What to demonstrate: align, segment, contrast or translate.
    out
        Folder for everything that is made [default: demo, demo-segment, demo-contrast or demo-translate].
    overwrite
        Replace a demonstration that is there.
    """
    _check(task, settings)
    if task == "segment":
        from lamella.recipe.demo_segment import run_demo as run_segment
        from lamella.recipe.demo_segment_report import COMMANDS as SEGMENT_COMMANDS
        from lamella.recipe.demo_segment_report import headlines as segment_headlines

        cells, compared = run_segment(out or Path("demo-segment"), settings, overwrite=overwrite)
        _conclude(cells, segment_headlines(compared), SEGMENT_COMMANDS, "images")
        return
    if task == "contrast":
        from lamella.recipe.demo_contrast import run_demo as run_contrast
        from lamella.recipe.demo_contrast_report import COMMANDS as CONTRAST_COMMANDS
        from lamella.recipe.demo_contrast_report import headlines as contrast_headlines

        places, results = run_contrast(out or Path("demo-contrast"), settings, overwrite=overwrite)
        _conclude(places, contrast_headlines(results), CONTRAST_COMMANDS, "images")
        return
    if task == "translate":
        from lamella.recipe.demo_translate import run_demo as run_translate
        from lamella.recipe.demo_translate_report import COMMANDS as TRANSLATE_COMMANDS
        from lamella.recipe.demo_translate_report import headlines as translate_headlines

        stains, scored = run_translate(out or Path("demo-translate"), settings, overwrite=overwrite)
        _conclude(stains, translate_headlines(scored), TRANSLATE_COMMANDS, "frames")
        return
    from lamella.recipe.demo import run_demo
    from lamella.recipe.demo_report import COMMANDS
    from lamella.tasks.align.evaluation_report import headlines

    stack, found = run_demo(out or Path("demo"), settings, overwrite=overwrite)
    _conclude(stack, headlines(found), COMMANDS, "sections")


def _check(task: str, settings: DemoSettings) -> None:
    """Refuse settings that change nothing here."""
    from lamella.core.errors import UserError

    other, value = ("images", settings.images) if task == "align" else ("sections", settings.sections)
    if value is not None:
        owner = "segment, contrast or translate" if task == "align" else "align"
        raise UserError(f"--{other} {value} is for lamella demo {owner}, not for {task}; leave it out")
    if task != "align" and settings.data is not None and settings.size is not None:
        raise UserError(
            f"--size {settings.size} is for synthetic images; those of --data are taken whole: leave it out"
        )


def _conclude(done: Demonstration, figures: Sequence[Headline], commands: str, own: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for figure in figures:
        table.add_row(figure.name, f"[bold]{figure.value}[/bold]", figure.note)
    table.add_row("time", f"[bold]{sum(done.seconds.values()) / 60:.1f} min[/bold]", "")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nreport: [bold]{done.report}[/bold]\n\nWith your own {own}:", soft_wrap=True)
    console.print(commands, markup=False, soft_wrap=True)
