"""``lamella train``: from a recipe to a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from cyclopts import Parameter

if TYPE_CHECKING:
    from lamella.recipe.train import Training
    from lamella.runs import RunFolder
    from lamella.train.fit import Outcome


def train(
    recipe: str,
    *changes: str,
    name: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    resume: bool = False,
    runs: Path = Path("runs"),
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a network from a recipe.

    Ctrl-C ends the step, writes a checkpoint and stops; the same command with --resume goes on from there, and ends with the
    same weights as a run that was never stopped.

    Examples
    --------
    ```
    lamella train align data.sources.0.path=stacks.h5 --name first
    lamella train align data.sources.0.path=stacks.h5 --name first --resume
    lamella train align data.sources.0.path=other.h5 trainer.learning_rate=1e-4 --from first --name tuned
    lamella train align data.sources.0.path=stacks.h5 --dry-run
    tensorboard --logdir runs
    ```

    Parameters
    ----------
    recipe
        YAML file, folder of a run, or the name of a recipe that lamella ships.
    changes
        Settings to change, KEY=VALUE with dots between levels: trainer.steps=2000.
    name
        Name of the run; the recipe's own if left out.
    from_
        Start from the weights of a run: RUN or RUN:CHECKPOINT. What fits is loaded, the rest is named.
    resume
        Go on with the run of this name.
    runs
        Folder that holds the runs.
    overwrite
        Replace the run of this name.
    dry_run
        Check everything, print the recipe as resolved, and stop before training.
    """
    from lamella.core.errors import UserError
    from lamella.recipe.bases import check_start, values_on_base
    from lamella.recipe.find import parse_recipe, recipe_values

    resolved = parse_recipe(values_on_base(recipe_values(recipe, changes), from_, runs), recipe)
    name = name or Path(recipe).resolve().stem
    if resume and overwrite:
        raise UserError("--resume goes on with a run and --overwrite removes it; give one of them")
    from lamella.recipe.train import prepare
    from lamella.recipe.train import train as start

    if dry_run:
        check_start(resolved, from_)
        _describe(prepare(resolved, parent=from_, runs=runs))
        return
    run, outcome = start(resolved, name, runs=runs, parent=from_, resume=resume, overwrite=overwrite)
    _conclude(run, outcome, runs)


def _describe(training: Training) -> None:
    print(yaml.safe_dump(training.recipe.to_dict(), sort_keys=False), end="")
    print(f"# {training.num_parameters:,} parameters", file=sys.stderr)
    if training.loaded:
        print(f"# weights: {training.loaded.summary()}", file=sys.stderr)


def _conclude(run: RunFolder, outcome: Outcome, runs: Path) -> None:
    where = "" if runs == Path("runs") else f" --runs {runs}"
    print(f"{run.path}: {outcome.reason} at step {outcome.step}")
    if outcome.interrupted:
        print("go on with the same command and --resume", file=sys.stderr)
        sys.exit(130)
    print(f"look at it with: lamella runs show {run.name}{where}")
