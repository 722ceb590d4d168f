"""Predicting with a run of any task: which function does it is found by the task of the run's recipe.

A task that predicts is one entry in ``PREDICTORS``, and its settings one in ``settings_of_tasks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.recipe.predict_options import PredictOptions, Request, settings_for

if TYPE_CHECKING:
    from lamella.data.inputs import Images

OTHER_VERBS = {"align": "lamella align", "contrast": "lamella embed"}  # tasks whose runs are used by another verb


@dataclass(frozen=True)
class Told:
    """What to tell the user: one line for each result, and for each image that was left out."""

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: str, page: Path | None, left_out: Sequence[str]) -> Told:
        """The result, and where to look at it."""
        return cls((result, *([f"look at them in {page}"] if page else [])), tuple(left_out))


def predict(request: Request) -> Told:
    """Do what is asked with the run, whatever its task.

    Raises UserError for a run that is not there or of a task that does not predict, and for options that its task does not have.
    """
    task = task_of(request)
    if task not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        verb = OTHER_VERBS.get(task)
        hint = f"use it with: {verb}" if verb else f"lamella predict needs one of the tasks {known}"
        raise UserError(f"run {request.run!r} is of the task {task!r}; {hint}")
    if not request.images:
        raise UserError("no images are named; give a folder or files: lamella predict RUN IMAGES --output OUT")
    owners = {name: tuple(settings.model_fields) for name, settings in settings_of_tasks().items()}
    settings = settings_for(request.options, settings_of_tasks()[task], task, owners)
    return PREDICTORS[task](request, settings)


def task_of(request: Request) -> str:
    """The task of the run that is asked for, the first if several are."""
    from lamella.recipe.find import member_names, open_checkpoint, task_kind

    folder, _ = open_checkpoint(member_names(request.run, request.place.runs)[0], request.place.runs)
    return task_kind(folder.recipe(), str(folder.path))


def settings_of_tasks() -> dict[str, type[Config]]:
    """The settings of each task that predicts."""
    from lamella.tasks.head.predict_settings import PredictSettings as HeadSettings
    from lamella.tasks.segment.predict_settings import PredictSettings as SegmentSettings
    from lamella.tasks.translate.predict_settings import TranslateSettings

    return {"segment": SegmentSettings, "head": HeadSettings, "translate": TranslateSettings}


def _images(request: Request, settings: Any, predictor: Any) -> Images:
    """The images that are named, of as many channels as ``predictor`` takes."""
    from lamella.data.inputs import find_images

    return find_images(
        request.images,
        predictor,
        channels=settings.channels,
        dataset=request.place.dataset,
        mip=request.place.mip,
        skip_bad=settings.skip_bad,
    )


def _how(request: Request, facts: dict[str, Any]) -> dict[str, Any]:
    return {"executor": request.executor, "overwrite": request.overwrite, "facts": facts}


def _segment(request: Request, settings: Any) -> Told:
    from lamella.core.memory import keep_freed_memory
    from lamella.recipe.segmenter import load_segmenter
    from lamella.tasks.segment.predict import predict_images

    keep_freed_memory()
    place = request.place
    segmenter, facts = load_segmenter(request.run, request.net, device=place.device, runs=place.runs)
    found = _images(request, settings, segmenter)
    done = predict_images(found, request.output, segmenter, settings, **_how(request, facts))
    objects = sum(row["objects"] for row in done.rows)
    counted = f"{objects} objects in {len(done.rows)} image{'s' if len(done.rows) != 1 else ''}: {request.output}"
    return Told.of(counted, done.page, done.left_out)


def _head(request: Request, settings: Any) -> Told:
    from lamella.core.memory import keep_freed_memory
    from lamella.recipe.head import load_head
    from lamella.tasks.head.predict import predict_images

    keep_freed_memory()
    place = request.place
    predictor, facts = load_head(request.run, request.net, device=place.device, runs=place.runs)
    found = _images(request, settings, predictor)
    done = predict_images(found, request.output, predictor, settings, **_how(request, facts))
    what = f"{predictor.name} ({', '.join(predictor.channel_names)})"
    count = f"{len(done.volumes)} image{'s' if len(done.volumes) != 1 else ''}"
    return Told.of(f"{what} of {count}: {request.output}", None, done.left_out)


def _translate(request: Request, settings: Any) -> Told:
    from lamella.core.memory import keep_freed_memory
    from lamella.recipe.translator import load_translator
    from lamella.tasks.translate.predict import translate_images
    from lamella.tasks.translate.predict_source import find_source
    from lamella.tasks.translate.predict_statistics import adapted

    keep_freed_memory()
    place = request.place
    translator, facts = load_translator(request.run, request.net, device=place.device, runs=place.runs)
    source = find_source(request.images, translator, settings, dataset=place.dataset, mip=place.mip)
    done = translate_images(
        source,
        request.output,
        adapted(source, translator, settings, facts["recipe"]["data"]["centre"]),
        settings,
        **_how(request, facts),
    )
    count = f"{len(done.written)} image{'s' if len(done.written) != 1 else ''}"
    return Told.of(f"{', '.join(translator.targets)} of {count}: {request.output}", done.page, done.left_out)


PREDICTORS: dict[str, Callable[[Request, Any], Told]] = {
    "segment": _segment,
    "head": _head,
    "translate": _translate,
}

__all__ = ["PREDICTORS", "PredictOptions", "Request", "Told", "predict", "settings_of_tasks", "task_of"]
