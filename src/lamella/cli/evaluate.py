"""``lamella evaluate``: score results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lamella.blockwise import Executor
from lamella.tasks.align.evaluate_settings import EvaluateSettings
from lamella.tasks.segment.evaluate_settings import InstanceSettings
from lamella.tasks.translate.evaluate_settings import ImageSettings

_FLAT = Parameter(name="*")


def alignment(
    aligned: str,
    out: Path,
    *,
    settings: Annotated[EvaluateSettings, _FLAT] = EvaluateSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Score an aligned volume section by section: correlation of neighbours with its null, errors, folds, worst places.

    Writes report.html, scores.json, sections.csv and worst.csv to OUT; with --run the main figures are kept with that run, where
    'lamella runs' shows them. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella evaluate alignment aligned.ome.zarr scores --source sections/
    lamella evaluate alignment aligned.ome.zarr scores --source sections/ --fields fields.ome.zarr --run first
    lamella evaluate alignment aligned.ome.zarr scores --fields fields.ome.zarr --truth truth.ome.zarr --chunk 32,64
    ```

    Parameters
    ----------
    aligned
        The aligned volume (z y x).
    out
        Folder for the scores.
    overwrite
        Replace scores that exist.
    """
    from lamella.tasks.align.evaluate import aligned_mip, evaluate_alignment, open_inputs
    from lamella.tasks.align.evaluation_report import headlines, write_report

    inputs = open_inputs(aligned, settings)
    estimate, tried = None, None
    if settings.run is not None:
        from lamella.recipe.aligner import load_estimator, settings_of

        mip = aligned_mip(settings.source, inputs.aligned) if settings.source else settings.mip
        estimator, tried = load_estimator(
            settings.run, settings_of(inputs.aligned), mip=mip, device=settings.device, runs=settings.runs
        )
        estimate = estimator.pair
    found = evaluate_alignment(
        inputs,
        out,
        chunks=settings.chunks,
        border=settings.border,
        estimate=estimate,
        samples=settings.samples,
        executor=executor,
        overwrite=overwrite,
    )
    write_report(found, inputs, out / "report.html", {"settings": settings.to_dict()})
    if tried is not None:
        from lamella.runs import RunFolder

        name = f"alignment_{out.resolve().name}"
        RunFolder(Path(tried["run"])).score(name, {"checkpoint": tried["checkpoint"], **found.brief()})
    for figure in headlines(found):
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    print(f"report: {out / 'report.html'}")


def instances(
    predicted: str,
    true: str,
    out: Path,
    *,
    settings: Annotated[InstanceSettings, _FLAT] = InstanceSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Score predicted instances against true ones: AP, precision, recall, PQ, SEG, Dice, VOI and Rand, by image, size and object.

    Writes report.html, scores.json, images.csv and objects.csv to OUT. An interrupted command goes on when it is repeated.

    Examples
    --------
    ```
    lamella evaluate instances predicted/ labels/ scores
    lamella evaluate instances predicted/ labels/ scores --images images/ --ignore 1 --baseline otsu-scores
    lamella evaluate instances predicted.ome.zarr truth.ome.zarr scores --slices
    ```

    Parameters
    ----------
    predicted
        Predicted labels, 0 background: a folder of images, or a volume.
    true
        True labels of the same names and sizes.
    out
        Folder for the scores.
    overwrite
        Replace scores that exist.
    """
    from lamella.tasks.segment.evaluate import evaluate_instances
    from lamella.tasks.segment.evaluate_inputs import open_subjects
    from lamella.tasks.segment.evaluation_report import headlines, write_report

    subjects = open_subjects(predicted, true, settings)
    found = evaluate_instances(subjects, out, settings, executor=executor, overwrite=overwrite)
    write_report(found, out / "report.html", {"predicted": predicted, "true": true})
    for figure in headlines(found):
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    print(f"report: {out / 'report.html'}")


def images(
    predicted: str,
    true: str,
    out: Path,
    *,
    settings: Annotated[ImageSettings, _FLAT] = ImageSettings(),  # noqa: B008 immutable
    executor: Annotated[Executor, _FLAT] = Executor(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Score predicted images against true ones: MAE, MSE, R2, Pearson, SSIM, MS-SSIM, PSNR, Dice, with and without masks.

    Both are a folder of frames, a plate, a folder of images, or one volume; positions, channels and frames are matched by name and
    number. Writes report.html (the worst first), panels, scores.json and a table for each orientation to OUT. An interrupted command
    goes on when it is repeated.

    Examples
    --------
    ```
    lamella evaluate images predicted/ frames/ scores
    lamella evaluate images predicted.ome.zarr plate.ome.zarr scores --orientations xy --orientations xz --orientations xyz
    lamella evaluate images predicted/ frames/ scores --masks frames.prep --percentiles 1,99.9 --window 21
    lamella evaluate images nuclei.tif masks.tif scores --metrics dice --metrics accuracy
    ```

    Parameters
    ----------
    predicted
        Predicted images.
    true
        True images, of the same positions.
    out
        Folder for the scores.
    overwrite
        Replace scores that exist.
    """
    from lamella.tasks.translate.evaluate import evaluate_images
    from lamella.tasks.translate.evaluate_inputs import open_subjects
    from lamella.tasks.translate.evaluation_report import headlines, write_report

    subjects = open_subjects(predicted, true, settings)
    found = evaluate_images(subjects, out, settings, executor=executor, overwrite=overwrite)
    page = write_report(found, out, {"predicted": predicted, "true": true})
    for figure in headlines(found):
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    if subjects.left_out:
        print(f"not predicted, so not compared: {', '.join(subjects.left_out)}")
    print(f"report: {page}")
