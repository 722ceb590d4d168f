"""``lamella grid``: all combinations of settings, trained and validated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.recipe.grid.plan import Plan


def plan(recipe: Path) -> None:
    """Number the combinations of a grid, check every one of them, and say how to run them.

    Contrast nets are trained for all combinations of contrastive keys and models; heads, for all combinations of seg keys, on each of
    their checkpoints; and each head is validated. A key that no config has is refused here. Combinations keep their numbers when the
    grid is edited: what is new is added.

    Examples
    --------
    ```
    lamella grid plan grid.yaml
    lamella grid plan temperatures.yaml
    lamella grid plan experiments/points.yaml
    ```

    Parameters
    ----------
    recipe
        YAML file of the grid; see docs/grids.md.
    """
    from lamella.recipe.grid.config import read_grid
    from lamella.recipe.grid.plan import write_plan
    from lamella.recipe.grid.run import script

    made = write_plan(read_grid(recipe))
    _show_plan(made)
    print(f"\nrun them here:   lamella grid run {recipe}")
    print(f"or with SLURM:   {script(recipe, made)}")


def run(recipe: Path, *, index: int | None = None, jobs: int = 1, dask: str | None = None) -> None:
    """Run what is left of a grid: all combinations that are new, were killed or failed, or one of them.

    A combination goes on where it was stopped, and one that fails does not stop the others. Repeat the command to run again what
    failed.

    Examples
    --------
    ```
    lamella grid run grid.yaml --jobs 2
    lamella grid run grid.yaml --index 3
    lamella grid run grid.yaml --dask local:4
    ```

    Parameters
    ----------
    recipe
        YAML file of the grid.
    index
        Number of the one combination to run, as for an array of jobs.
    jobs
        Combinations to run at once, each in a process of this machine.
    dask
        local:N, tcp://HOST:PORT or a YAML file of a cluster, whose workers take a combination each.
    """
    from lamella.core.errors import UserError
    from lamella.recipe.grid.collect import collect
    from lamella.recipe.grid.config import read_grid
    from lamella.recipe.grid.plan import write_plan
    from lamella.recipe.grid.run import run_grid

    if jobs < 1:
        raise UserError(f"--jobs {jobs} must be 1 or more")
    made = write_plan(read_grid(recipe))
    found = run_grid(made, index=index, jobs=jobs, dask=dask)
    failed = [ran for ran in found if ran.failure]
    print(f"{len(found) - len(failed)} combinations done now, {len(failed)} failed: {made.path}")
    if failed:
        print(f"run them again with: lamella grid run {recipe}")
        sys.exit(1)
    if index is None:
        _tell_best(made, collect(made))


def status(recipe: Path) -> None:
    """Show how far each combination of a grid is: new, running, done, killed or failed, and why.

    Examples
    --------
    ```
    lamella grid status grid.yaml
    lamella grid status experiments/points.yaml
    ```

    Parameters
    ----------
    recipe
        YAML file of the grid.
    """
    from lamella.recipe.grid.collect import status_rows
    from lamella.recipe.grid.config import read_grid
    from lamella.recipe.grid.plan import make_plan

    made = make_plan(read_grid(recipe))
    rows = status_rows(made)
    _show(rows)
    states = [row["state"] for row in rows]
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    if made.left_out:
        print(f"no longer in the grid: {', '.join(f'combination-{n}' for n in made.left_out)}")


def collect(recipe: Path) -> None:
    """Write the best row of every head checkpoint into one table, GRID/table.csv, and show the best of all.

    The table is indexed by contrastive_comb, seg_comb, contrastive_ckpt, seg_ckpt and threshold.

    Examples
    --------
    ```
    lamella grid collect grid.yaml
    lamella grid collect experiments/points.yaml
    ```

    Parameters
    ----------
    recipe
        YAML file of the grid.
    """
    from lamella.recipe.grid.collect import collect as gather
    from lamella.recipe.grid.config import read_grid
    from lamella.recipe.grid.plan import make_plan

    made = make_plan(read_grid(recipe))
    _tell_best(made, gather(made))


def _show_plan(made: Plan) -> None:
    from lamella.recipe.grid.collect import status_rows

    print(f"{len(made.contrastive)} combinations, {len(made.seg)} seg combinations in each: {made.path}")
    _show([{k: row[k] for k in ("combination", "state", "varied")} for row in status_rows(made)])
    _show([{"seg combination": seg.number, "varied": seg.told()} for seg in made.seg])


def _tell_best(made: Plan, found: Any) -> None:
    figure = made.config.validation.settings.best
    best = found.best(figure)
    place = ", ".join(f"{key} {best[key]}" for key in list(best)[:5])
    print(f"{len(found.rows)} rows: {made.path / 'table.csv'}")
    print(f"best {figure}: {best[figure]:.4g} ({place})")
    if found.missing:
        print(f"{len(found.missing)} heads are not validated yet, the first {found.missing[0]}")


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(soft_wrap=False).print(table)
