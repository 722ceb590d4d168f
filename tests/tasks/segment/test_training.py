"""Training from files into a run: the same twice, the same when interrupted, and refused early where it cannot work."""

import csv

import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.recipe.find import load_recipe
from lamella.recipe.load import load_run
from lamella.recipe.recipe import Recipe
from lamella.recipe.train import prepare, train
from tests.data.labelled import cells, data, write

SMALL = [
    "task.net={kind: unet, features: [4, 6], down: [2], fold: 2, dropout: 0.1}",
    "data.crop=24",
    "data.overhang=4",
    "task.trim=0.67",
    *(f"trainer.{k}" for k in ("steps=4", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=2")),
    *(f"trainer.{k}" for k in ("panels_every=4", "device=cpu", "threads=1")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two grey images of 40 x 48 with cells and a blob (label 1), and one in colours."""
    path = tmp_path_factory.mktemp("cells")
    for k in range(2):
        image, labels = cells((40, 48), seed=k, num=8, first=2)
        labels[:8, :8] = 1
        write(path, f"im{k}", image, labels)
    image, labels = cells((40, 48), num=8)
    write(path / "colour", "rgb", np.stack([image] * 3, -1), labels)
    return path


def recipe(folder, *changes) -> Recipe:
    return load_recipe(
        "segment", [f"data.sources.0.path={folder}", "data.ignore=[1]", "validation={}", *SMALL, *changes]
    )


def rows(run):
    with open(run.path / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in csv.DictReader(file)]


def weights(run):
    return load_run(run.path).task.net.state_dict()


def test_the_same_seed_gives_the_same_losses_and_an_interrupted_run_ends_like_a_whole_one(folder, tmp_path):
    whole, _ = train(recipe(folder), "whole", runs=tmp_path)
    other, _ = train(recipe(folder, "seed=1"), "other", runs=tmp_path)
    assert rows(other) != rows(whole)
    halves, outcome = train(recipe(folder, "trainer.max_cpu_seconds=1e-3"), "halves", runs=tmp_path)
    assert outcome.step == 1
    halves, outcome = train(recipe(folder), "halves", runs=tmp_path, resume=True)
    assert outcome.reason == "finished"
    assert rows(halves) == rows(whole)
    assert all(torch.equal(a, b) for a, b in zip(weights(halves).values(), weights(whole).values(), strict=True))
    assert {"val/total", "val/object_iou", "val/boundary_iou", "val/ap50"} <= set(rows(whole)[-1])
    assert {"best", "best_objects", "best_boundaries", "best_instances"} <= set(whole.checkpoints())
    assert {"objects.png", "boundaries.png", "instances.png"} <= {
        p.name.split("_")[-1] for p in whole.path.rglob("*.png")
    }


def test_what_cannot_work_is_refused_before_the_training(folder):
    with pytest.raises(UserError, match=r"images have 3 channels.*set task\.channels=3"):
        prepare(recipe(folder / "colour"))
    assert prepare(recipe(folder / "colour", "task.channels=3")).num_parameters > 0
    with pytest.raises(UserError, match=r"leaves \(0, 0\).*set data.crop to"):
        prepare(recipe(folder, "data.crop=4", "data.overhang=0"))
    with pytest.raises(UserError, match="task 'segment' learns from data of kind 'labelled', not 'stacks'"):
        load_recipe("segment", ["data={kind: stacks, sources: [{path: x}]}"])


def test_crops_may_hang_over(folder):
    """With overhang, crops begin outside of the image; what lies there is mirrored and does not count."""
    hanging, inside = (data(str(folder), overhang=n).build(0) for n in (5, 0))
    shares = [[float(s[i]["valid"].tensor.mean()) for i in range(60)] for s in (hanging, inside)]
    assert min(shares[1]) == 1
    assert min(shares[0]) < 0.8
    assert min(shares[0]) >= (11 / 16) ** 2
