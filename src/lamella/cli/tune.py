"""``lamella tune``: find good settings for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.recipe.tune.settings import RateSettings, SearchSettings

_FLAT = Parameter(name="*")


def lr(
    recipe: str,
    out: Path,
    *changes: str,
    settings: Annotated[RateSettings, _FLAT] = RateSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Find a learning rate: a staged search by short trainings, or with --finder one training with a rising rate.

    The search tries 20 rates between --low and --high for 100 steps, 10 around the best of them for 500, and 5 around the best of
    those for 1000; --counts, --steps and --spans change these numbers. OUT gets report.html, trials.csv, a run for each trial in
    trials/, and best.yaml, the recipe with the winner filled in. A command that was stopped goes on when it is repeated.

    Examples
    --------
    ```
    lamella tune lr align rates data.sources.0.path=stacks.h5 validation.length=32
    lamella tune lr align rates data.sources.0.path=stacks.h5 validation.length=32 --counts 12,6 --steps 200,1000 --spans 0.5
    lamella tune lr align ramp data.sources.0.path=stacks.h5 --finder --low 1e-5 --high 1
    lamella train rates/best.yaml --name tuned
    ```

    Parameters
    ----------
    recipe
        YAML file, folder of a run, or the name of a recipe that lamella ships.
    out
        Folder for the trials and what they show.
    changes
        Settings to change, KEY=VALUE with dots between levels: trainer.batch_size=16.
    overwrite
        Replace the tuning that OUT holds.
    """
    from lamella.recipe.find import recipe_values

    values = recipe_values(recipe, changes)
    if settings.finder:
        from lamella.recipe.tune.finder import find_rate as find
    else:
        from lamella.recipe.tune.rates import tune_rate as find
    from lamella.recipe.tune.report import conclude

    conclude(*find(values, out, settings, overwrite=overwrite))


def search(
    recipe: str,
    out: Path,
    *changes: str,
    settings: Annotated[SearchSettings, _FLAT] = SearchSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Search over any keys of a recipe with Optuna.

    Keys are given ranges: KEY=log(1e-5,1e-2), uniform(0,1), int(2,6), logint(4,64) or choice(a,b,c); in quotes, because of the
    brackets. Every other KEY=VALUE changes the recipe. Each trial is a run in OUT/trials; those that do worse than others at the same
    step end early. The same command in another terminal, or on another machine that sees OUT, works on the same search. A command that
    was stopped or killed goes on when it is repeated, in the middle of its trial; a larger --trials searches on. OUT gets report.html,
    trials.csv and best.yaml, the recipe with the winner filled in. Needs pip install 'lamella[tune]'.

    Examples
    --------
    ```
    lamella tune search align found data.sources.0.path=stacks.h5 validation.length=32 'trainer.learning_rate=log(1e-5,1e-2)'
    lamella tune search runs/first found 'trainer.optimiser.kind=choice(adam,adamw)' 'task.net.levels=int(4,7)' --trials 30 --jobs 2
    lamella train found/best.yaml --name tuned
    ```

    Parameters
    ----------
    recipe
        YAML file, folder of a run, or the name of a recipe that lamella ships.
    out
        Folder for the trials and what they show.
    changes
        Ranges to search, KEY=log(LOW,HIGH) and so on, and settings to change, KEY=VALUE.
    overwrite
        Replace the tuning that OUT holds.
    """
    from lamella.recipe.find import recipe_values
    from lamella.recipe.tune.space import split

    ranges, fixed = split(changes)
    values = recipe_values(recipe, fixed)
    from lamella.recipe.tune.report import conclude
    from lamella.recipe.tune.search import search as find

    conclude(*find(values, ranges, out, settings, overwrite=overwrite))
