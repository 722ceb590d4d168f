"""How many steps of a training fit into a time on this machine: a demonstration is to end soon, and its learning rate to have
fallen by then."""

from __future__ import annotations

import time

import numpy as np
import torch

from lamella.core.rng import stream
from lamella.recipe.recipe import Recipe
from lamella.recipe.train import prepare
from lamella.train.batches import collate
from lamella.train.config import accelerator

_TRIED = 5  # steps; the first few are slower and do not count


def affordable_steps(recipe: Recipe, seconds: float, fewest: int) -> int:
    """Steps of ``recipe`` that take about ``seconds`` here: at least ``fewest``, at most its own, which a GPU does."""
    kind, _ = accelerator(recipe.trainer)
    if kind != "cpu":
        return recipe.trainer.steps
    training, size = prepare(recipe), recipe.trainer.batch_size
    taken = []
    for step in range(_TRIED):
        start = time.monotonic()
        with torch.no_grad():
            batch = collate([training.samples[step * size + k] for k in range(size)])
            sample = training.task.sample(batch, stream(recipe.seed, "speed", step), True)
        training.task.loss(sample, 0)["total"].backward()
        taken.append(time.monotonic() - start)
    return int(np.clip(seconds / np.median(taken[2:]), fewest, recipe.trainer.steps))
