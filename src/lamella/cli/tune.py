"""``lamella tune``: find good settings for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.recipe.tune.settings import RateSettings

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
