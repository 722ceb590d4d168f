"""``lamella runs``: what was trained, how it came to be, how runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lamella.runs import RunFolder
from lamella.runs import list_runs as _list_runs
from lamella.runs.curves import check_chart_path, common_losses, losses, plot_curves, sparkline
from lamella.runs.history import differences, flatten
from lamella.runs.history import trace as _trace

if TYPE_CHECKING:
    from lamella.runs.history import Step

_PIPE_WIDTH = 200  # columns where the output goes to a file or another program


def list_runs(*, runs: Path = Path("runs")) -> None:
    """List runs, newest last.

    Examples
    --------
    ```
    lamella runs list
    lamella runs list --runs /data/runs
    ```

    Parameters
    ----------
    runs
        Folder that holds the runs.
    """
    table = Table("run", "task", "state", "step", "loss", "from", "begun", box=None)
    for run in _list_runs(runs):
        facts = run.provenance()
        table.add_row(
            run.name,
            str(run.recipe().get("task", {}).get("kind", "")),
            _state(run),
            f"{_last_step(run)}/{run.recipe().get('trainer', {}).get('steps', '?')}",
            _headline(run),
            _parent(facts),
            facts["time"],
        )
    _console().print(table if table.row_count else f"no runs in {runs}")


def show(run: str, *, runs: Path = Path("runs"), plot: Path | None = None) -> None:
    """Show one run: how it was made, its recipe, curves, warnings and scores.

    Examples
    --------
    ```
    lamella runs show first
    lamella runs show first --plot first.png
    ```

    Parameters
    ----------
    run
        Name or path of the run.
    runs
        Folder that holds the runs.
    plot
        Draw the curves into this .png, .svg, .pdf or .html file.
    """
    folder, console = RunFolder.open(run, runs), _console()
    if plot:
        check_chart_path(plot)
    facts = folder.provenance()
    console.print(
        f"[bold]{escape(folder.name)}[/bold]  {_state(folder)}, step {_last_step(folder)}, begun {facts['time']}"
    )
    console.print(f"in {folder.path}, from {_parent(facts) or 'scratch'}, commit {facts['git_commit'] or 'unknown'}")
    console.print(f"checkpoints: {', '.join(folder.checkpoints()) or 'none yet'}")
    for warning in facts.get("warnings", []):
        console.print(f"warning at step {warning['step']}: {escape(warning['message'])}", style="yellow")
    console.rule("recipe", align="left")
    console.print(yaml.safe_dump(folder.recipe(), sort_keys=False), markup=False, highlight=False)
    _print_curves(console, [folder], losses(folder))
    _print_scores(console, [folder])
    if plot:
        plot_curves([folder], plot)


def trace(run: str, *, runs: Path = Path("runs"), plot: Path | None = None) -> None:
    """Trace a run through its parents: the settings that changed at each step, curves and scores.

    Examples
    --------
    ```
    lamella runs trace fine_tuned
    lamella runs trace fine_tuned --plot history.html
    ```

    Parameters
    ----------
    run
        Name or path of the run.
    runs
        Folder that holds the runs.
    plot
        Draw the curves of all runs of the line into this .png, .svg, .pdf or .html file.
    """
    if plot:
        check_chart_path(plot)
    steps, console = _trace(RunFolder.open(run, runs)), _console()
    for step in steps:
        _print_step(console, step)
    if plot:
        plot_curves([step.run for step in steps], plot)


def compare(first: str, second: str, *others: str, runs: Path = Path("runs"), plot: Path | None = None) -> None:
    """Compare runs: recipe keys that differ, curves, scores.

    Examples
    --------
    ```
    lamella runs compare smooth stiff
    lamella runs compare a b c --plot abc.png
    ```

    Parameters
    ----------
    first
        Name or path of a run.
    second
        Name or path of another.
    others
        More runs.
    runs
        Folder that holds the runs.
    plot
        Draw the curves into this .png, .svg, .pdf or .html file.
    """
    if plot:
        check_chart_path(plot)
    folders, console = [RunFolder.open(name, runs) for name in (first, second, *others)], _console()
    table = Table("recipe", *(folder.name for folder in folders), box=None)
    for key, values in differences([folder.recipe() for folder in folders]).items():
        table.add_row(key, *(escape(str(value)) for value in values))
    console.print(table if table.row_count else "the recipes are the same")
    _print_curves(console, folders, common_losses(folders))
    _print_scores(console, folders)
    if plot:
        plot_curves(folders, plot)


def _print_step(console: Console, step: Step) -> None:
    folder = step.run
    if step.lost_parent:
        console.print(f"parent {step.lost_parent} is not there; the trace begins after it", style="yellow")
    origin = f"from {_parent(folder.provenance())}" if step.checkpoint else "from scratch"
    console.rule(f"{escape(folder.name)}  {origin}, step {_last_step(folder)}", align="left")
    for key, (old, new) in step.changes.items():
        console.print(f"  {key}: {old} → {new}", markup=False, highlight=False)
    _print_curves(console, [folder], [name for name in losses(folder) if "/" in name])
    _print_scores(console, [folder])


def _print_curves(console: Console, folders: list[RunFolder], names: list[str]) -> None:
    table = Table("curve", "run", "", "first", "last", "least", "most", box=None)
    for name in names:
        for folder in folders:
            _, values = folder.metrics.curve(name)
            if values:
                figures = (values[0], values[-1], min(values), max(values))
                table.add_row(name, folder.name, sparkline(values), *(f"{figure:.4g}" for figure in figures))
    if table.row_count:
        console.print(table)


def _print_scores(console: Console, folders: list[RunFolder]) -> None:
    scores = [flatten(folder.scores()) for folder in folders]
    table = Table("score", *(folder.name for folder in folders), box=None)
    for key in dict.fromkeys(key for values in scores for key in values):
        table.add_row(key, *(_figure(values.get(key)) for values in scores))
    if table.row_count:
        console.print(table)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else escape(str(value))


def _headline(run: RunFolder) -> str:
    for name in ("val/total", "train/total"):
        _, values = run.metrics.curve(name)
        if values:
            return f"{name} {values[-1]:.4g}"
    return ""


def _last_step(run: RunFolder) -> int:
    rows = run.metrics.read()
    return int(run.provenance().get("step") or (rows[-1]["step"] if rows else 0))


def _state(run: RunFolder) -> str:
    state = run.state()
    return f"{state} ({run.provenance()['reason']})" if state in ("stopped", "failed") else state


def _parent(facts: dict[str, Any]) -> str:
    parent = facts.get("parent")
    return f"{parent['name']}:{parent['checkpoint']}" if parent else ""


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)
