"""A trained head run, ready to predict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.embedder import load_embedder
from lamella.recipe.load import LoadedRun, load_run

if TYPE_CHECKING:
    from lamella.data.embeddings import Origin
    from lamella.infer import InferSettings
    from lamella.tasks.head.predictor import HeadPredictor


def load_head(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[HeadPredictor, dict[str, Any]]:
    """The predictor of ``RUN`` or ``RUN:CHECKPOINT``, and what to record of where it came from.

    A head on images needs the run's folder alone. One on stored embeddings takes images too if the run that embedded them is there,
    beside this one or in ``runs``, with the very checkpoint. Its numbers are float32 where ``settings`` leave it to the processor.
    """
    from lamella.infer import InferSettings
    from lamella.tasks.head.predictor import HeadPredictor
    from lamella.tasks.head.task import HeadTask
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="head")
    task, data, origin = loaded.task, loaded.recipe.data, origin_of_run(loaded)
    assert isinstance(task, HeadTask)
    assert data.kind in ("labelled", "points")
    chosen = settings or InferSettings()
    if task.net.base is None and chosen.precision == "auto":  # heads learn from small differences between embeddings
        chosen = chosen.model_copy(update={"precision": "float32"})
    predictor = HeadPredictor(
        net=task.net.for_images(),
        target=task.config.target,
        normaliser=data.normaliser,
        origin=origin,
        slices=data.slices,
        channels=_channels(data),
        mirror=max(data.per_axis(data.context)),
        settings=chosen,
        device=device_of(device),
    )
    if origin is not None:
        base = _base_run(loaded, origin, runs)
        predictor = predictor if base is None else replace(predictor, through=_through(predictor, base, runs))
    facts = {"run": loaded.folder.name, "checkpoint": loaded.checkpoint, "recipe": loaded.recipe.to_dict()}
    return predictor, facts


def origin_of_run(loaded: LoadedRun) -> Origin | None:
    """The checkpoint whose embeddings a run was trained on; None if on images."""
    from lamella.data.embeddings import Origin

    return Origin.read(loaded.folder.provenance())


def _channels(data: Any) -> tuple[int, ...] | None:
    from lamella.data.image_source import common_channels

    return common_channels(data.sources)


def _base_run(loaded: LoadedRun, origin: Origin, runs: str | Path) -> str | None:
    """The run that made the embeddings, if it is there with the same checkpoint."""
    from lamella.runs.folder import RunFolder, is_run
    from lamella.train.checkpoints import digest

    for place in (loaded.folder.path.resolve().parent, Path(runs)):
        folder = RunFolder(place / origin.run)
        has_it = is_run(folder.path) and origin.checkpoint in folder.checkpoints()
        if has_it and digest(folder.checkpoint(origin.checkpoint)) == origin.sha256:
            return f"{folder.path}:{origin.checkpoint}"
    return None


def _through(predictor: HeadPredictor, base: str, runs: str | Path) -> HeadPredictor:
    """The head behind the net of the contrast run ``base``, for images."""
    from lamella.tasks.head.net import HeadNet

    embedder, _ = load_embedder(base, device="cpu", runs=runs)
    if embedder.net.h_channels != predictor.net.in_channels:
        raise UserError(f"{base} gives {embedder.net.h_channels} channels, the head takes {predictor.net.in_channels}")
    net = HeadNet(
        embedder.net.base,
        predictor.net.head,
        ndim=predictor.net.ndim,
        in_channels=embedder.net.base.in_channels,
        out_channels=predictor.net.out_channels,
    )
    return replace(
        predictor,
        net=net.eval(),
        normaliser=embedder.normaliser,
        origin=None,
        slices=embedder.slices,
        channels=embedder.channels,
        mirror=embedder.mirror,
    )
