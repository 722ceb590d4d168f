"""``lamella study``: what embeddings are worth, for different numbers of points."""

from __future__ import annotations

from pathlib import Path


def study(recipe: Path, out: Path, *changes: str, jobs: int = 1, overwrite: bool = False) -> None:
    """Compare a head on embeddings with training end to end, a head on pixels and a random forest, for several numbers of points.

    Points come from the training images alone, thresholds and checkpoints are chosen on the validation images, and the test images
    are scored once. OUT gets table.csv (a row for each method, number of points and seed), summary.csv (mean and deviation),
    times.csv and report.html. Every cell is recorded by itself: a command that was stopped goes on when it is repeated, and points,
    seeds and methods may be added.

    Examples
    --------
    ```
    lamella study study.yaml studies/nuclei
    lamella study study.yaml studies/nuclei --jobs 2
    lamella study study.yaml studies/boundaries classes.kind=boundary 'objects={kind: components}'
    ```

    Parameters
    ----------
    recipe
        YAML file of the study; see docs/study.md.
    out
        Folder for points, nets, tables and the page.
    changes
        Settings to change, KEY=VALUE with dots between levels: seeds=3 train.path=cells/train.
    jobs
        How many methods with a seed are at work at once, each in a process of this machine.
    overwrite
        Begin anew in a folder that holds another study.
    """
    from lamella.core.errors import UserError
    from lamella.recipe.study.config import read_study

    if jobs < 1:
        raise UserError(f"--jobs {jobs} must be 1 or more")
    config = read_study(recipe, changes)
    from lamella.recipe.study.report import NAMES, write_page
    from lamella.recipe.study.results import Results
    from lamella.recipe.study.run import begin_study, run_study

    begun = begin_study(config, out, overwrite=overwrite)
    done = run_study(begun, jobs=jobs)
    results = Results.of(begun)
    results.write()
    write_page(results)
    print(f"{done} cells done now, {len(results.rows)} of {results.total} in all: {out / 'table.csv'}")
    for row in results.summary():
        spread = f" ± {row['deviation']:.3f}" if row["seeds"] > 1 else ""
        print(f"{NAMES[row['method']]}, {row['points']} points: {config.figure} {row['mean']:.3f}{spread}")
    print(f"report: {out / 'report.html'}")
