"""A trained contrast run, ready to embed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.recipe.load import load_run

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.contrast.embedder import Embedder


def load_embedder(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Embedder, dict[str, Any]]:
    """The embedder of ``RUN`` or ``RUN:CHECKPOINT``, from the run's folder alone, and what to record of where it came from."""
    from lamella.data.embeddings import Origin
    from lamella.data.image_source import common_channels
    from lamella.data.images import ImagesData
    from lamella.tasks.contrast.embed_settings import NetSettings
    from lamella.tasks.contrast.embedder import Embedder
    from lamella.tasks.contrast.task import ContrastTask
    from lamella.train.checkpoints import digest
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="contrast")
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, ContrastTask)
    assert isinstance(data, ImagesData)
    embedder = Embedder(
        net=task.net,
        origin=Origin(loaded.folder.name, loaded.checkpoint, digest(loaded.folder.checkpoint(loaded.checkpoint))),
        normaliser=data.normaliser,
        slices=data.slices,
        channels=common_channels(data.sources),
        mirror=max(data.per_axis(data.context)),
        settings=settings or NetSettings(),
        device=device_of(device),
    )
    return embedder, {"recipe": loaded.recipe.to_dict()}
