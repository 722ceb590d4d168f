"""Validation: perfect maps score perfectly, means are means, the best is the best, and a killed one ends with the same tables."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.recipe.validate import run as validation
from lamella.recipe.validate.candidates import heads, stored
from lamella.recipe.validate.run import validate
from lamella.recipe.validate.settings import ValidateSettings
from lamella.recipe.validate.tables import Validation
from tests.recipe.validate_specimens import write_affinities, write_set

LEVELS = ValidateSettings(thresholds="0.3,0.5,0.7")
BACKGROUND = {"has_background": True}


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("shape", [(48, 48), (6, 40, 40)], ids=["planes", "sections"])
def test_true_affinities_give_the_truth(tmp_path, shape):
    source = write_set(tmp_path / "set", shape=shape)
    found = stored(str(write_affinities(tmp_path / "affinities", source)))
    words = {**BACKGROUND, "slices": len(shape) == 3}
    done = validate([found], str(source), tmp_path / "out", LEVELS, words)
    best = done.best()[0]
    assert best["AP50"] == 1
    assert best["voi_sum"] < 0.5  # edges lie half a voxel off where an affinity ends at one of two voxels
    assert best["rand_split"] > 0.9
    kept = tmp_path / "out" / "samples" / "affinities" / "i0"
    names = ("raw", "affinities", "boundaries", "distance", "seeds", "fragments", "truth", "segmentation_0.50")
    volumes = {name: open_volume(str(kept / f"{name}.ome.zarr")) for name in names}
    assert volumes["truth"].box.shape == shape
    assert volumes["affinities"].box.shape == (len(shape), *shape)
    made, true = (volumes[name].read(volumes["truth"].box) for name in ("segmentation_0.50", "truth"))
    assert len(np.unique(made)) == len(np.unique(true))
    assert volumes["fragments"].meta.provenance["method"]["kind"] == "agglomeration"


def test_means_are_of_the_samples_and_the_best_is_the_best(tmp_path):
    source = write_set(tmp_path / "set", count=3)
    found = stored(str(write_affinities(tmp_path / "affinities", source, noise=0.4)))
    validate([found], str(source), tmp_path / "out", LEVELS, {"seeds": "minima", **BACKGROUND})
    rows, means, best = (rows_of(tmp_path / "out" / f"{name}.csv") for name in ("metrics", "means", "best"))
    assert len(rows) == 9
    for mean in means:
        mine = [float(r["voi_sum"]) for r in rows if r["threshold"] == mean["threshold"]]
        assert float(mean["voi_sum"]) == pytest.approx(np.mean(mine), rel=1e-4)
    assert [r["threshold"] for r in best] == [min(means, key=lambda r: float(r["voi_sum"]))["threshold"]]
    for row in rows:
        parts = float(row["voi_split"]) + float(row["voi_merge"])
        assert float(row["voi_sum"]) == pytest.approx(parts, abs=1e-4)
    history = rows_of(tmp_path / "out" / "merges" / "affinities" / "i0.csv")
    assert [float(m["threshold"]) for m in history] == sorted(float(m["threshold"]) for m in history)
    assert all(float(m["score"]) <= float(m["threshold"]) for m in history)


def test_a_killed_validation_goes_on_and_ends_alike(tmp_path, monkeypatch):
    source = write_set(tmp_path / "set", count=3)
    found = stored(str(write_affinities(tmp_path / "affinities", source, noise=0.3)))
    validate([found], str(source), tmp_path / "whole", LEVELS, BACKGROUND)
    real, scored = validation.at_thresholds, []

    def dying(*args):
        scored.append(1)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(validation, "at_thresholds", dying)
    with pytest.raises(KeyboardInterrupt):
        validate([found], str(source), tmp_path / "killed", LEVELS, BACKGROUND)
    validate([found], str(source), tmp_path / "killed", LEVELS, BACKGROUND)
    assert len(scored) == 4  # the first sample was not done again
    for name in ("metrics.csv", "means.csv", "best.csv", "merges/affinities/i1.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(UserError, match="exists already"):
        validate([found], str(source), tmp_path / "killed", LEVELS, BACKGROUND)


def test_mutex_and_volumes(tmp_path):
    source = write_set(tmp_path / "set", count=1, shape=(20, 30, 30))
    found = stored(str(write_affinities(tmp_path / "affinities", source)))
    settings = ValidateSettings(thresholds="0.5", kind="mutex", background="ignored", samples=0)
    best = validate([found], str(source), tmp_path / "out", settings).best()[0]
    assert best["AP50"] == 1
    assert best["voi_sum"] < 0.2
    assert not (tmp_path / "out" / "samples").exists()


def test_heads_of_classes_are_scored_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "train", count=2)
    write_set(tmp_path / "val", count=2, seed=5)
    words = [
        "task.freeze_base=false", "task.net=null", "task.channels=1", "task.target.classes.kind=foreground",
        "data.sources.0.path=train", "data.crop=32", "trainer.steps=40", "trainer.batch_size=1", "trainer.device=cpu",
        "trainer.learning_rate=0.03", "trainer.panels_every=0", "trainer.graph=false", "--name", "head",
    ]  # fmt: skip
    for command in (
        ["train", "head", *words],
        ["evaluate", "heads", "head", "val", "out", "min_size=5", "--thresholds", "0.3,0.5", "--device", "cpu"],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    assert "AP at IoU 0.5: 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs/head/scores/heads_out.json").read_text())["AP50"] == 1
    assert (tmp_path / "out" / "report.html").read_text().count("<img") >= 5
    (head,) = heads("head", ["last"], device="cpu", runs="runs")
    assert (head.name, head.target, head.ndim) == ("last", "classes", 2)
    settings = ValidateSettings(thresholds="0.5", kind="watershed", samples=0)
    assert validate([head], "val", tmp_path / "watershed", settings).best()[0]["AP50"] == 1


@pytest.mark.parametrize(
    ("words", "flags", "told"),
    [
        (["seedz=grid"], [], "unknown key 'seedz'; did you mean 'seed"),
        (["threshold=0.5"], [], "--thresholds"),
        ([], ["--thresholds", "0.5,1.5"], r"1.5 is outside \(0, 1\)"),
        ([], ["--kind", "components"], "components makes no objects of affinities"),
        (["offsets=[[-1,0]]"], [], "2 affinities for 1 offsets"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, capsys, words, flags, told):
    source = write_set(tmp_path / "set", count=1)
    found = write_affinities(tmp_path / "affinities", source)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "affinities", str(found), str(source), str(tmp_path / "out"), *words, *flags])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert re.search(told, error), error


def test_images_that_do_not_fit_are_told(tmp_path):
    source, other = write_set(tmp_path / "set", count=1), write_set(tmp_path / "other", count=1, shape=(40, 40), seed=3)
    found = stored(str(write_affinities(tmp_path / "affinities", source)))
    with pytest.raises(UserError, match="both must have one size"):
        validate([found], str(other), tmp_path / "out", LEVELS)
    with pytest.raises(UserError, match="no labels"):
        validate([found], str(source / "images"), tmp_path / "out", LEVELS)
    assert not (tmp_path / "out").exists()


def test_unknown_figures_leave_means_and_the_order_as_they_are():
    known = dict.fromkeys(("voi_split", "voi_merge", "rand_split", "rand_merge", "adapted_rand", "AP50"), 0.5)
    counts = {"true": 1, "predicted": 1}
    rows = tuple(
        {"checkpoint": c, "sample": s, "threshold": 0.5, **known, "voi_sum": v, **counts}
        for c, s, v in (("a", "x", None), ("a", "y", None), ("b", "x", 2.0), ("b", "y", None))
    )
    best = Validation(rows, LEVELS).best()
    assert [(row["checkpoint"], row["voi_sum"]) for row in best[:1]] == [("b", 2.0)]
    assert np.isnan(best[1]["voi_sum"])
