"""Combinations: the product, their numbers, and what is refused before any work."""

from __future__ import annotations

import json

import pytest
import yaml

from lamella.core.errors import UserError
from lamella.recipe.grid.config import read_grid
from lamella.recipe.grid.plan import make_plan, write_plan
from lamella.recipe.grid.run import script
from lamella.recipe.grid.work import Work
from tests.recipe.validate_specimens import write_set

QUICK = {
    "steps": 4, "batch_size": 1, "checkpoint_every": 2, "validate_every": 100, "panels_every": 0, "graph": False, "log_every": 2,
    "device": "cpu", "precision": "32",
}  # fmt: skip


def write_grid(tmp_path, **changes):
    """A grid of 2 temperatures x 2 nets, with heads of 2 widths; ``changes`` are of its sections."""
    if not (tmp_path / "val").exists():
        write_set(tmp_path / "train", count=2)
        write_set(tmp_path / "val", count=1, seed=7)
    grid = {
        "out": str(tmp_path / "out"),
        "contrastive": {
            "set": {
                "data.sources.0.path": str(tmp_path / "train" / "images"),
                "data.crop": 32,
                "data.overhang": 8,
                "task.net": {"kind": "unet", "features": [4, 8], "down": [2]},
                "task.point_density": 0.02,
                "trainer": QUICK,
            },
            "grid": {"task.temperature": [0.05, 0.1]},
        },
        "models": [{"task.h_channels": 4}, {"task.h_channels": 6}],
        "seg": {
            "set": {"data.sources.0.path": str(tmp_path / "train"), "data.crop": 32, "trainer": QUICK},
            "grid": {"task.head.hidden": [[4], [8]]},
        },
        "validation": {"source": str(tmp_path / "val"), "checkpoints": ["last"], "settings": {"thresholds": "0.3,0.5"}},
    }
    for section, values in changes.items():
        grid[section] = {**grid[section], **values} if isinstance(values, dict) else values
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid, sort_keys=False))
    return file


def told(plan):
    return {c.number: c.told() for c in plan.contrastive}


def test_combinations_are_the_product_of_keys_times_models(tmp_path):
    file = write_grid(tmp_path, seg={"grid": {"task.head.hidden": [[4], [8]], "trainer.learning_rate": [1e-3]}})
    plan = make_plan(read_grid(file))
    assert told(plan) == {
        0: "task.h_channels=4 task.temperature=0.05",
        1: "task.h_channels=4 task.temperature=0.1",
        2: "task.h_channels=6 task.temperature=0.05",
        3: "task.h_channels=6 task.temperature=0.1",
    }
    assert [s.varied for s in plan.seg] == [{"task.head.hidden": h, "trainer.learning_rate": 1e-3} for h in ([4], [8])]
    assert not (tmp_path / "out").exists()
    assert script(file, plan).startswith("sbatch --array=0-3 ")


def test_what_is_added_gets_new_numbers_and_nothing_is_renumbered(tmp_path):
    first = told(write_plan(read_grid(write_grid(tmp_path))))
    more = {"grid": {"task.temperature": [0.02, 0.05, 0.1]}}
    second = write_plan(
        read_grid(write_grid(tmp_path, contrastive=more, models=[{"task.h_channels": 6}, {"task.h_channels": 4}]))
    )
    grown = told(second)
    assert {n: grown[n] for n in first} == first
    assert sorted(grown) == list(range(6))
    fewer = write_plan(read_grid(write_grid(tmp_path, contrastive={"grid": {"task.temperature": [0.1]}})))
    assert sorted(told(fewer)) == [1, 3]
    assert fewer.left_out == (0, 2, 4, 5)
    assert len(json.loads((tmp_path / "out" / "grid.json").read_text())["contrastive"]) == 6


def test_seg_numbers_stay_too(tmp_path):
    first = write_plan(read_grid(write_grid(tmp_path)))
    again = write_plan(read_grid(write_grid(tmp_path, seg={"grid": {"task.head.hidden": [[16], [8], [4]]}})))
    assert [(s.number, s.varied["task.head.hidden"]) for s in first.seg] == [(0, [4]), (1, [8])]
    assert [(s.number, s.varied["task.head.hidden"]) for s in again.seg] == [(0, [4]), (1, [8]), (2, [16])]


def test_heads_take_over_what_their_base_is(tmp_path):
    plan = make_plan(read_grid(write_grid(tmp_path, seg={"reads": ["base", "embeddings", "scratch"]})))
    base, embeddings, scratch = (plan.seg_recipe(plan.contrastive[3], seg) for seg in plan.seg[:3])
    assert (base.task.net, base.task.h_channels, base.task.freeze_base) == (scratch.task.net, 6, True)
    assert not scratch.task.freeze_base
    assert (embeddings.task.net, embeddings.task.channels) == (None, 6)
    assert embeddings.data.normaliser.kind == "factor"
    heads = {(h.seg.reads, h.checkpoint) for h in Work(plan, plan.contrastive[0]).heads()}
    assert heads == {("base", "last"), ("embeddings", "last"), ("scratch", "none")}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"contrastive": {"grid": {"task.temprature": [0.1]}}},
            "unknown key 'task.temprature'; did you mean 'temperature'",
        ),
        ({"seg": {"grid": {"trainer.learning_rat": [0.1]}}}, "unknown key 'trainer.learning_rat'; did you mean"),
        ({"models": [{"task.hchannels": 4}]}, "did you mean 'h_channels'"),
        ({"contrastive": {"grid": {"task.temperature": 0.1}}}, "must be a list of values to try, not 0.1"),
        ({"contrastive": {"grid": {"task.temperature": [0.1, 0.1]}}}, "tries a value twice"),
        ({"models": [{"task.temperature": 0.1}]}, "in 'models' and in 'contrastive.grid'"),
        ({"contrastive": {"grid": {"task.temperature": [-1]}}}, "task.temperature"),
        ({"validation": {"method": {"opening": -1}}}, "opening"),
        ({"validation": {"method": {"seeds": "grid"}}}, "unknown key 'seeds'"),
        ({"validation": {"settings": {"thresholds": "0.5,1"}}}, r"1 is outside \(0, 1\)"),
        ({"validation": {"settings": {"kind": "mutex"}}}, "mutex makes no objects of classes"),
        ({"validation": {"source": "nowhere"}}, "nowhere does not exist"),
        ({"validation": {"source": "{train}"}}, "is in seg's data and in validation.source"),
        ({"contrast": {}}, "unknown key 'contrast'; did you mean 'contrastive'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, changes, match):
    write_grid(tmp_path)
    grid = yaml.safe_load((tmp_path / "grid.yaml").read_text())
    changes = yaml.safe_load(yaml.safe_dump(changes).replace("{train}", str(tmp_path / "train")))
    for section, values in changes.items():
        grid[section] = {**grid.get(section, {}), **values} if isinstance(values, dict) else values
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    with pytest.raises(UserError, match=match):
        write_plan(read_grid(tmp_path / "grid.yaml"))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    file = write_grid(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no grid"):
        write_plan(read_grid(file))
