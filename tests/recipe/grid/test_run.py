"""A grid that is run: complete folders, a table with its index, and what failed or was killed run again alone."""

from __future__ import annotations

import csv
import json

import pytest

from lamella.core.errors import UserError
from lamella.recipe.grid.collect import INDEX, collect, status_rows
from lamella.recipe.grid.config import read_grid
from lamella.recipe.grid.plan import write_plan
from lamella.recipe.grid.run import run_grid
from lamella.recipe.grid.work import Stopped, Work
from lamella.runs import RunFolder
from tests.recipe.grid.test_plan import write_grid


def planned(tmp_path, **changes):
    small = {
        "contrastive": {"grid": {}},
        "models": [{"task.h_channels": 4}, {"task.h_channels": 6}],
        "seg": {"grid": {}, "reads": ["embeddings", "base"]},
    }
    return write_plan(read_grid(write_grid(tmp_path, **{**small, **changes})))


def states(plan):
    return [row["state"] for row in status_rows(plan)]


def files_of(plan):
    return {p.relative_to(plan.path): p.read_bytes() for p in plan.path.glob("combination-*/seg/*/*/validation/*.csv")}


def test_a_grid_is_run_stopped_mended_and_collected(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    assert states(plan) == ["new", "new"]
    with pytest.raises(UserError, match=r"nothing of .* is validated yet"):
        collect(plan)

    real = Work._validate
    monkeypatch.setattr(Work, "_validate", lambda work, head: (_ for _ in ()).throw(Stopped()))
    with pytest.raises(KeyboardInterrupt):
        run_grid(plan, index=0)
    assert states(plan) == ["killed", "new"]

    monkeypatch.setattr(Work, "_validate", real)
    (tmp_path / "train" / "images").rename(tmp_path / "train" / "gone")
    failed = run_grid(plan)
    assert [bool(ran.failure) for ran in failed] == [True, True]
    assert states(plan) == ["failed", "failed"]
    assert "images" in status_rows(plan)[1]["failure"]

    (tmp_path / "train" / "gone").rename(tmp_path / "train" / "images")
    assert [(ran.number, ran.failure) for ran in run_grid(plan, index=1)] == [(1, None)]
    assert states(plan) == ["failed", "done"]
    before = files_of(plan)
    assert [(ran.number, ran.failure) for ran in run_grid(plan)] == [(0, None)]
    assert run_grid(plan) == []
    after = files_of(plan)
    assert {name: after[name] for name in before} == before

    found = collect(plan)
    with (plan.path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0])[:5] == INDEX
    keys = [(r["contrastive_comb"], r["seg_comb"], r["contrastive_ckpt"], r["seg_ckpt"]) for r in rows]
    assert keys == [(a, b, "last", "last") for a in "01" for b in "01"]
    assert found.missing == []
    assert float(found.best("voi_sum")["voi_sum"]) == min(float(row["voi_sum"]) for row in rows)

    folder = plan.path / "combination-1"
    own = json.loads((folder / "combination.json").read_text())
    assert own["contrastive"]["task"]["h_channels"] == 6
    base = RunFolder(folder / "seg" / "combination-1" / "last")
    assert base.parent()["name"] == "contrastive"
    assert (folder / "embs" / "last" / "0" / "i0.ome.zarr").is_dir()

    # a validation that is asked for otherwise is done again; what is trained is left
    other = planned(tmp_path, validation={"settings": {"thresholds": "0.4"}})
    assert states(other) == ["killed", "killed"]
    trained = (folder / "contrastive" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert [ran.failure for ran in run_grid(other, index=1)] == [None]
    assert (folder / "contrastive" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained
    assert {row["threshold"] for row in collect(other).rows} == {0.4}


def test_a_combination_is_done_by_one_process_at_a_time(tmp_path):
    from filelock import FileLock

    plan = planned(tmp_path)
    folder = plan.path / "combination-0"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        assert states(plan) == ["running", "new"]
        with pytest.raises(UserError, match="another process"):
            run_grid(plan, index=0)
    with pytest.raises(UserError, match="there is no combination 7"):
        run_grid(plan, index=7)
