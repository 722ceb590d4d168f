import csv
import shutil

import pytest

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.runs import Metrics, RunFolder, list_runs
from lamella.runs.curves import plot_curves, sparkline
from lamella.runs.history import ABSENT, differences, trace


def recipe(**changes):
    return {"task": {"kind": "align", "smoothness": {"weight": 0.1}}, "trainer": {"steps": 10}, **changes}


@pytest.fixture
def family(tmp_path):
    """Three runs in a line: first, second from first's best, third from second's last."""
    first = RunFolder.create("first", recipe(), runs=tmp_path, seed=1)
    changed = recipe(trainer={"steps": 20, "clip": 1.0})
    second = RunFolder.create("second", changed, runs=tmp_path, parent=link(tmp_path, "second", first, "best"))
    third = RunFolder.create("third", changed, runs=tmp_path, parent=link(tmp_path, "third", second, "last"))
    for run in (first, second, third):
        for step in (5, 10):
            run.metrics.append(step, {"train/total": 1 / step, "samples_per_second": 3.0})
    third.score("alignment", {"correlation": {"mean": 0.31}})
    return first, second, third


def link(folder, name, parent, checkpoint):
    return {"name": parent.name, "path": RunFolder(folder / name).parent_record(parent), "checkpoint": checkpoint}


def test_a_run_gives_back_what_it_was_made_with(tmp_path):
    run = RunFolder.create("one", recipe(), runs=tmp_path, seed=7)
    run.record(state="finished")
    again = RunFolder.open("one", tmp_path)
    assert again.recipe() == recipe()
    facts = again.provenance()
    assert facts["seed"] == 7
    assert facts["state"] == "finished"
    assert {"command", "time", "versions", "git_commit"} <= facts.keys()
    assert RunFolder.open(tmp_path / "one") == again


def test_a_name_in_use_is_refused_unless_asked(tmp_path):
    old = RunFolder.create("one", recipe(), runs=tmp_path)
    old.metrics.append(1, {"a": 1.0})
    with pytest.raises(UserError, match=r"run 'one' exists .* --resume, or replace it by --overwrite"):
        RunFolder.create("one", recipe(seed=2), runs=tmp_path)
    assert old.recipe() == recipe()
    new = RunFolder.create("one", recipe(seed=2), runs=tmp_path, overwrite=True)
    assert new.recipe()["seed"] == 2
    assert new.metrics.read() == []


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    with pytest.raises(UserError, match="is no run"):
        RunFolder.create("data", recipe(), runs=tmp_path, overwrite=True)
    assert (tmp_path / "data" / "precious").exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "run:best", "a b"])
def test_names_that_no_folder_should_have_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="run name"):
        RunFolder.create(name, recipe(), runs=tmp_path)


def test_a_run_that_is_not_there_gets_the_nearest_name(tmp_path):
    RunFolder.create("gentle", recipe(), runs=tmp_path)
    with pytest.raises(UserError, match="did you mean 'gentle'"):
        RunFolder.open("gentel", tmp_path)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    run = RunFolder.create("one", recipe(), runs=tmp_path)
    run.checkpoint_path("last").touch()
    assert run.checkpoint() == run.path / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match="no checkpoint 'best'; it has last"):
        run.checkpoint("best")


def test_one_process_at_a_time_trains_a_run(tmp_path):
    run = RunFolder.create("one", recipe(), runs=tmp_path)
    assert run.state() == "new"
    run.record(state="running")
    with run.locked():
        other = RunFolder.open("one", tmp_path)
        assert other.state() == "running"
        with pytest.raises(UserError, match="another process is training"), other.locked():
            pass
        with pytest.raises(UserError, match="another process is training"):
            RunFolder.create("one", recipe(), runs=tmp_path, overwrite=True)
    assert run.state() == "killed"


def test_runs_are_listed_oldest_first(family, tmp_path):
    family[0].record(time="2031-01-01T00:00:00+00:00")
    assert [run.name for run in list_runs(tmp_path)] == ["second", "third", "first"]
    assert list_runs(tmp_path / "nowhere") == []


def test_metrics_grow_by_rows_and_columns(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    metrics.append(1, {"a": 0.1, "phase": "top, all"})
    metrics.append(2, {"a": 0.2, "b": float("inf")})
    metrics.append(3, {"b": 3.0})
    assert metrics.read()[0] == {"step": 1, "a": 0.1, "phase": "top, all"}
    assert metrics.curve("b") == ([2, 3], [float("inf"), 3])
    assert metrics.curves() == ["a", "b"]


def test_metrics_forget_what_came_after(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    for step in range(1, 6):
        metrics.append(step, {"a": step / 10})
    with metrics.path.open("a") as file:
        file.write("6,0.")
    metrics.keep_until(3)
    assert metrics.curve("a") == ([1, 2, 3], [0.1, 0.2, 0.3])
    with metrics.path.open() as file:
        assert len(list(csv.reader(file))) == 4


def test_differences_name_what_is_not_everywhere():
    rows = differences([{"a": {"b": 1}, "c": [{"x": 1}]}, {"a": {"b": 1}, "c": [{"x": 2}]}, {"a": {"b": 1}}])
    assert rows == {"c.0.x": (1, 2, ABSENT)}


def test_trace_tells_the_line_and_its_changes(family):
    steps = trace(family[2])
    assert [(step.run.name, step.checkpoint) for step in steps] == [
        ("first", None),
        ("second", "best"),
        ("third", "last"),
    ]
    assert steps[1].changes == {"trainer.steps": (10, 20), "trainer.clip": (ABSENT, 1.0)}
    assert steps[2].changes == {}


def test_trace_survives_a_move_and_a_loss(family, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for run in family:
        shutil.move(run.path, moved / run.name)
    third = RunFolder.open("third", moved)
    assert len(trace(third)) == 3
    shutil.rmtree(moved / "first")
    steps = trace(third)
    assert [step.run.name for step in steps] == ["second", "third"]
    assert steps[0].lost_parent == str(moved / "first")


def test_sparkline_averages_what_does_not_fit():
    assert sparkline([0.0, 0.0, 7.0, 7.0], width=2) == "▁█"
    assert sparkline([1.0, float("nan"), 1.0]) == "▁!▁"
    assert sparkline([]) == ""


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_charts_are_drawn(family, tmp_path, suffix):
    path = tmp_path / f"chart{suffix}"
    plot_curves(family, path)
    start = path.read_bytes()[:16]
    assert start.startswith(b"\x89PNG" if suffix == ".png" else b"<!doctype html>")


def test_a_chart_of_unknown_kind_is_refused(family, tmp_path):
    with pytest.raises(UserError, match=r"\.png, \.svg"):
        plot_curves(family, tmp_path / "chart.doc")


def run_cli(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["runs", *words])
    return stop.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("list",), ["first", "second:last", "train/total 0.1"]),
        (("show", "third"), ["from second:last", "weight: 0.1", "train/total", "alignment.correlation.mean", "0.31"]),
        (("trace", "third"), ["first  from scratch", "trainer.steps: 10 → 20", "trainer.clip: (absent) → 1.0", "0.31"]),
        (("compare", "first", "third"), ["trainer.steps", "10", "20", "train/total"]),
    ],
)
def test_verbs_tell_about_runs(family, tmp_path, capsys, words, parts):
    code, said = run_cli(capsys, *words, "--runs", str(tmp_path))
    assert not code
    assert [part for part in parts if part not in said.out] == []


def test_verbs_refuse_what_is_not_there(family, tmp_path, capsys):
    code, said = run_cli(capsys, "show", "forth", "--runs", str(tmp_path))
    assert code == 2
    assert "no run 'forth'" in said.err
