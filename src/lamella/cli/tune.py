"""``lamella tune``: find good settings for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.infer.settings import InferSettings
from lamella.recipe.tune.settings import BatchSettings, MethodSettings, RateSettings, SearchSettings

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


def batch(
    recipe: str,
    out: Path,
    *changes: str,
    settings: Annotated[BatchSettings, _FLAT] = BatchSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Find a batch size: speed and memory of each, and how well each learns in the same time.

    Sizes grow until memory ends: on a GPU the largest that fits is found by trying; on a CPU the growth of memory from size to size
    tells when to stop. Then every size trains for --budget seconds of wall or CPU time, or on so many samples, and the best metric
    wins. OUT gets report.html, trials.csv, a run for each size in trials/, and best.yaml, the recipe with the winner filled in. A
    command that was stopped goes on when it is repeated.

    Examples
    --------
    ```
    lamella tune batch align batches data.sources.0.path=stacks.h5 validation.length=32
    lamella tune batch runs/first batches --sizes 4,8,16 --by samples --budget 2000 --rate sqrt
    lamella train batches/best.yaml --name tuned
    ```

    Parameters
    ----------
    recipe
        YAML file, folder of a run, or the name of a recipe that lamella ships.
    out
        Folder for the trials and what they show.
    changes
        Settings to change, KEY=VALUE with dots between levels: trainer.learning_rate=1e-3.
    overwrite
        Replace the tuning that OUT holds.
    """
    from lamella.recipe.find import recipe_values
    from lamella.recipe.tune.batch import tune_batch
    from lamella.recipe.tune.report import conclude

    conclude(*tune_batch(recipe_values(recipe, changes), out, settings, overwrite=overwrite))


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


def instances(
    run: str,
    data: str,
    out: Path,
    *changes: str,
    settings: Annotated[MethodSettings, _FLAT] = MethodSettings(),  # noqa: B008 immutable
    net: Annotated[InferSettings, _FLAT] = InferSettings(),  # noqa: B008 immutable
    apply: bool = False,
    overwrite: bool = False,
) -> None:
    """Find the best settings for making instances of a run's maps.

    The maps of the labelled images DATA are predicted once and kept in OUT; hundreds of settings of every method are then scored on
    them, and their neighbourhoods searched more closely. Take images that were neither trained on nor are kept for the final test. OUT
    gets report.html, trials.csv and best.yaml, the run's recipe with the winner filled in; with --apply the winner becomes the run's
    own. A command that was stopped goes on when it is repeated.

    Examples
    --------
    ```
    lamella tune instances first cells/ tuned
    lamella tune instances first cells/ tuned --apply
    lamella tune instances first cells/ closer 'threshold=uniform(0.3,0.7)' min_size=30 --kind basins --score mAP
    ```

    Parameters
    ----------
    run
        Trained run: RUN or RUN:CHECKPOINT.
    data
        Images with labels, in any layout that training takes.
    out
        Folder for maps, scores and what they show.
    changes
        Ranges in place of a method's own, KEY=uniform(LOW,HIGH), int(LOW,HIGH) or choice(A,B), and values to keep, KEY=VALUE.
    apply
        Make the winner the run's own, for lamella predict. The recipe of the training is kept in recipe.untuned.yaml.
    overwrite
        Replace the tuning that OUT holds.
    """
    from lamella.recipe.tune.instances import apply as apply_to
    from lamella.recipe.tune.instances import tune_instances
    from lamella.recipe.tune.report import headlines

    tuning, found = tune_instances(run, data, out, changes, settings, net, overwrite=overwrite)
    headlines(tuning, found)
    if apply:
        print(f"{apply_to(run, tuning, found, settings.runs).path} predicts with it from now on")
    else:
        print("make it the run's own by the same command with --apply")
