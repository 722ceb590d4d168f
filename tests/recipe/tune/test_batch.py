"""Batch sizes: memory that is measured, limits that follow from it, and what every size is given."""

import csv

import pytest

from lamella.core.errors import UserError
from lamella.recipe.find import load_recipe
from lamella.recipe.tune import batch, memory
from lamella.recipe.tune.batch import (
    boundary,
    expected_peak,
    largest_within,
    measure_on_cpu,
    measure_on_gpu,
    tune_batch,
)
from lamella.recipe.tune.memory import Probe, free_memory
from lamella.recipe.tune.settings import BatchSettings

GIB = 2**30


def fitting(size: int) -> Probe:
    """A batch that takes 1 GiB and half of one for each sample."""
    return Probe(size, True, GIB, GIB + size * GIB // 2, seconds=0.1, cpu_seconds=0.1)


def test_memory_follows_the_growth_between_sizes():
    assert expected_peak([fitting(2)], 4) == 3 * GIB
    assert expected_peak([fitting(2), fitting(4)], 10) == 6 * GIB
    assert largest_within([fitting(2), fitting(4)], 9 * GIB) == 16
    assert largest_within([fitting(2)], 9 * GIB) is None


def test_on_a_cpu_nothing_that_would_not_fit_is_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(batch, "probe", lambda values, size: tried.append(size) or fitting(size))
    monkeypatch.setattr(batch, "free_memory", lambda: 10 * GIB)
    room = measure_on_cpu({}, [2, 4, 8, 16, 32], 0.8)
    assert tried == [2, 4, 8]
    assert room.largest == 14  # 1 + 14 / 2 = 8 GiB
    assert "16 would take 9.66 GB of 8.59 GB" in room.found


def test_on_a_gpu_the_largest_that_fits_is_found_by_trying(monkeypatch):
    monkeypatch.setattr(batch, "probe", lambda values, size: fitting(size) if size <= 21 else Probe(size, fits=False))
    room = measure_on_gpu({}, [2, 4, 8, 16, 32, 64])
    assert [one.size for one in room.probes] == [2, 4, 8, 16]
    assert room.largest == 21
    assert measure_on_gpu({}, [2, 4]).largest is None


def test_the_boundary_is_narrowed_down():
    for limit in (64, 77, 100, 127):
        low, high = boundary(lambda n, limit=limit: n <= limit, 64, 128)
        assert low <= limit < high <= low + low // 16


def test_a_control_group_limits_what_is_free(tmp_path):
    files = {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 600\ninactive_file 100\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert memory._group_spare(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._group_spare(tmp_path) == float("inf")
    assert memory._group_spare(tmp_path / "none") == float("inf")
    assert 0 < free_memory() < 2**50


def test_every_size_is_measured_and_learns_from_as_many_samples(values, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "probe", memory._measure)  # here, which is quicker than in a process of its own
    settings = BatchSettings(sizes="1,2", by="samples", budget=4, rate="linear")
    tuning, found = tune_batch(values, tmp_path / "out", settings)
    with (tuning.path / "trials.csv").open() as file:
        rows = {row["batch size"]: row for row in csv.DictReader(file)}
    assert {size: row["steps"] for size, row in rows.items()} == {"1": "4", "2": "2"}
    assert {size: float(row["trainer.learning_rate"]) for size, row in rows.items()} == {"1": 5e-4, "2": 1e-3}
    assert all(float(row["memory GB"]) > float(row["before the first step GB"]) > 0.1 for row in rows.values())
    best = load_recipe(tuning.path / "best.yaml").trainer
    assert str(best.batch_size) == min(rows, key=lambda size: float(rows[size]["val/total"]))
    assert best.learning_rate == pytest.approx(5e-4 * best.batch_size)
    assert found.winner["trainer.batch_size"] == best.batch_size
    before = (tuning.path / "probes.json").read_text()
    tune_batch(values, tmp_path / "out", settings)
    assert (tuning.path / "probes.json").read_text() == before  # steps follow from it, so it is measured once


def test_sizes_that_are_none_are_refused():
    for sizes in ("2,1", "0,2", "1.5", "a"):
        with pytest.raises(UserError, match="sizes"):
            BatchSettings.load({"sizes": sizes})
