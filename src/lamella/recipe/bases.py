"""What a head takes over from what it is put on: a contrast run, or the embeddings that were stored.

What a recipe leaves out, the net, ``h_channels``, ``beside``, channels and slices, and how intensities are scaled, is that of the contrast run
that it starts from. What it says otherwise is refused where the weights would not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.image import ScaledImage
from lamella.nets.unet import UNetConfig
from lamella.ops.intensity import Factor
from lamella.recipe.find import open_checkpoint, parse_recipe
from lamella.recipe.recipe import Recipe
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.head.config import HeadConfig

if TYPE_CHECKING:
    from lamella.data.embeddings import Origin
    from lamella.train.checkpoints import Loaded

PARENTS = {"head": ("head", "contrast")}  # tasks whose runs another task may start from, besides its own

_WEIGHTS = ("net", "h_channels", "beside", "channels")
_DATA = ("ndim", "slices", "normaliser")


def on_base(recipe: Recipe, parent: str | None, runs: str | Path = "runs") -> Recipe:
    """``recipe`` with what it leaves out taken from the contrast run ``parent``; as it is for other tasks and parents.

    Raises UserError where recipe and run contradict each other in what the weights are made for.
    """
    if parent is None or not isinstance(recipe.task, HeadConfig):
        return recipe
    values = recipe.model_dump(mode="json", exclude_unset=True)
    filled = values_on_base(values, parent, runs)
    return recipe if filled is values else Recipe.load(filled, f"recipe on {parent}")


def values_on_base(values: dict[str, Any], parent: str | None, runs: str | Path = "runs") -> dict[str, Any]:
    """The same for the values of a recipe as written, which may make sense only with what the run adds."""
    task = values.get("task")
    if parent is None or not isinstance(task, Mapping) or task.get("kind") != "head":
        return values
    folder, _ = open_checkpoint(parent, runs)
    own = parse_recipe(folder.recipe(), str(folder.path))
    if not isinstance(own.task, ContrastConfig):
        return values
    _refuse_others(task, own.task, folder.name)
    base, filled = own.to_dict(), dict(values)
    filled["task"] = {**{key: base["task"][key] for key in _WEIGHTS}, **task}
    for part in ("data", "validation"):
        if isinstance(values.get(part), Mapping):
            filled[part] = {**{key: base["data"][key] for key in _DATA}, **values[part]}
    return filled


def _refuse_others(task: Mapping[str, Any], base: ContrastConfig, run: str) -> None:
    if "net" in task and task["net"] is None:
        raise UserError(
            f"task.net is none, so nothing of run {run!r} would be used; leave --from out, or leave task.net out"
        )
    if "net" in task and UNetConfig.load(task["net"], "task.net") != base.net:
        raise UserError(f"task.net is not that of run {run!r}; leave it out of the recipe")
    own = base.to_dict()
    for key in ("h_channels", "beside", "channels"):
        if key in task and task[key] != own[key]:
            raise UserError(
                f"task.{key}={task[key]} is not that of run {run!r}, {own[key]}; leave it out of the recipe"
            )


def check_start(recipe: Recipe, parent: str | None) -> None:
    """Refuse to freeze a base that nothing was learnt by."""
    if isinstance(recipe.task, HeadConfig) and recipe.task.freeze_base and parent is None:
        raise UserError("task.freeze_base keeps a net as it comes, and none is given; name a contrast run with --from")


def check_loaded(recipe: Recipe, parent: str, loaded: Loaded) -> None:
    """Refuse a base of which not all weights came from the parent."""
    if not isinstance(recipe.task, HeadConfig):
        return
    lacking = [name for name in (*loaded.missing, *loaded.mismatched) if name.startswith("base.")]
    if lacking:
        raise UserError(
            f"the net of {parent} does not fit that of the recipe: {', '.join(lacking[:3])}; leave task.net and task.h_channels "
            "out of the recipe, and they are taken from the run"
        )


def check_data(recipe: Recipe, samples: Any, held_out: Any) -> Origin | None:
    """The checkpoint whose embeddings a head learns from; None if from images, or for another task.

    Raises UserError for embeddings of several checkpoints, embeddings that a recipe would scale or embed once more, and voxels that
    are in training and in validation.
    """
    if not isinstance(recipe.task, HeadConfig):
        return None
    from lamella.data.embeddings import common_origin

    training, validation = list(samples.images), list(held_out.images) if held_out is not None else []
    _refuse_shared(training, validation)
    origin = common_origin(image.part.volume for image in [*training, *validation])
    if origin is None:
        return None
    for section, data in (("data", recipe.data), ("validation", recipe.validation)):
        normaliser = getattr(data, "normaliser", None)
        if data is not None and normaliser != Factor(factor=1.0):
            raise UserError(
                f"{section} are embeddings, which must stay as they are; set {section}.normaliser={{kind: factor, factor: 1}}"
            )
    if recipe.task.net is not None:
        raise UserError(
            f"data are embeddings of {origin}, and task.net would embed them again; leave task.net and --from out"
        )
    return origin


def _refuse_shared(training: Iterable[ScaledImage], validation: Iterable[ScaledImage]) -> None:
    """Refuse voxels that are trained and validated on."""
    parts: dict[tuple[str, int | None], list[Box]] = {}
    for image in training:
        parts.setdefault((image.part.volume.path, image.part.time), []).append(image.part.box)
    for image in validation:
        for box in parts.get((image.part.volume.path, image.part.time), ()):
            if not box.intersect(image.part.box).is_empty:
                raise UserError(
                    f"{image.part.volume.path} is in data and in validation, so validation would show what was learnt by heart; "
                    "give each other images, or other parts of them with bbox or z"
                )
