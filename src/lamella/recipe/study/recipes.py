"""The recipes that a study trains: those that it names, with its own images, points, classes, net and seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamella.core.config import override
from lamella.core.errors import UserError
from lamella.data.images import ImagesData
from lamella.ops.intensity import IntensityConfig
from lamella.recipe.find import parse_recipe, recipe_values
from lamella.recipe.recipe import Recipe
from lamella.recipe.study.config import StudyConfig, Trained
from lamella.recipe.study.images import without_labels
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.head.config import HeadConfig

_OWN = ("seed", "data.sources", "data.points", "data.num_points", "task.target", "task.head", "validation")
"""Keys that are the study's to set."""


def contrast_recipe(config: StudyConfig, seed: int) -> Recipe:
    """How the embeddings of a seed are trained."""
    pool = [without_labels(config.train)] if config.pool is None else [s.to_dict() for s in config.pool]
    values = _changed(config.contrast, {"seed": seed, "data.sources": pool, "data.ndim": config.ndim}, "contrast")
    return parse_recipe(values, "contrast of the study", task="contrast")


def scratch_recipe(config: StudyConfig, seed: int, points: Path) -> Recipe:
    """How the baseline of a seed is trained end to end on the points of a file; a checkpoint is kept for each look."""
    base = contrast_recipe(config, seed)
    steps = recipe_steps(config)
    every = max(steps // config.looks, 1)
    task, data = base.task, base.data
    assert isinstance(task, ContrastConfig)
    assert isinstance(data, ImagesData)
    own = {
        "seed": seed,
        "task.net": task.net.to_dict(),
        "task.h_channels": task.h_channels,
        "task.beside": task.to_dict()["beside"],
        "task.channels": task.channels,
        "task.head": {"kind": "sparse", "hidden": list(config.head.hidden)},
        "task.target": {"kind": "classes", "classes": config.classes.to_dict()},
        "data.sources": [without_labels(config.train)],
        "data.points": str(points),
        "data.ndim": config.ndim,
        "data.slices": data.slices,
        "data.normaliser": data.normaliser.to_dict(),
        "trainer.steps": steps // every * every,
        "trainer.checkpoint_every": every,
        "trainer.keep_every": every,
    }
    return parse_recipe(_changed(config.scratch, own, "scratch"), "scratch of the study", task="head")


def recipe_steps(config: StudyConfig) -> int:
    """Steps that the training end to end is asked to take."""
    trainer = recipe_values(config.scratch.recipe, _changes(config.scratch.set)).get("trainer") or {}
    return int(trainer.get("steps", 1000))


def normaliser_of(config: StudyConfig) -> IntensityConfig:
    """How intensities are scaled, for all methods: as the contrast recipe says."""
    data = contrast_recipe(config, 0).data
    assert isinstance(data, ImagesData)
    return data.normaliser


def check_recipes(config: StudyConfig) -> None:
    """Refuse recipes that cannot be trained, before anything is."""
    contrast_recipe(config, 0)
    task = scratch_recipe(config, 0, Path("points.csv")).task
    assert isinstance(task, HeadConfig)


def _changed(trained: Trained, own: dict[str, Any], name: str) -> dict[str, Any]:
    taken = [k for k in trained.set if any(k == o or k.startswith(f"{o}.") for o in _OWN)]
    if taken:
        raise UserError(f"{name}.set sets {taken[0]}, which the study does; leave it out")
    return override(recipe_values(trained.recipe, _changes(trained.set)), _changes(own))


def _changes(values: dict[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
