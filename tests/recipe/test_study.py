"""Studies: sets are kept apart, cells are recorded by themselves, and a study that was stopped ends as one that was not."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from lamella.core.errors import UserError
from lamella.data.points_table import read_points
from lamella.recipe.study.config import StudyConfig, read_study
from lamella.recipe.study.images import Sets, whole
from lamella.recipe.study.methods import learner_of
from lamella.recipe.study.recipes import contrast_recipe, normaliser_of, scratch_recipe
from lamella.recipe.study.report import write_page
from lamella.recipe.study.results import Results
from lamella.recipe.study.run import Study, begin_study, run_study
from lamella.recipe.study.score import Scorer
from lamella.runs import RunFolder
from tests.recipe.study_specimens import study_values, volume_values


def load(folder: Path, **changes: Any) -> StudyConfig:
    return StudyConfig.load(study_values(folder, **changes))


def done(config: StudyConfig, out: Path) -> Study:
    study = begin_study(config, out)
    run_study(study)
    Results.of(study).write()
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyConfig, Study]:
    folder = tmp_path_factory.mktemp("study")
    config = load(folder)
    return folder, config, done(config, folder / "out")


def test_every_method_seed_and_number_has_a_row_and_a_time(finished: tuple[Path, StudyConfig, Study]) -> None:
    study = finished[2]
    results = Results.of(study)
    cells = {(row["method"], row["seed"], row["points"]) for row in results.table()}
    assert len(cells) == results.total == 4 * 2 * 2
    assert all(0 <= row["test"] <= 1 for row in results.table())
    assert all(row["seconds"] > 0 for row in results.times())
    assert {row["look"] for row in results.times() if row["method"] == "scratch"} == {"2 steps", "4 steps"}
    assert all((row["prepared"] > 0) == (row["method"] in ("embedding", "pixels")) for row in results.times())


def test_bright_cells_are_found_from_pixels(finished: tuple[Path, StudyConfig, Study]) -> None:
    summary = {(row["method"], row["points"]): row["mean"] for row in Results.of(finished[2]).summary()}
    assert summary["pixels", 20] == 1.0


def test_a_study_that_was_stopped_ends_with_the_same_table(finished: tuple[Path, StudyConfig, Study]) -> None:
    folder, config, study = finished
    other = folder / "stopped"
    shutil.copytree(study.path, other)
    for name in ("table.csv", "summary.csv"):
        (other / name).unlink()
    for cell in Study(config, other).cells():
        if cell.method in ("embedding", "forest") and cell.seed == 1 and cell.number == 20:
            cell.path.unlink()
    again = done(config, other)
    assert all(not work.exists() for work in other.glob("cells/**/.*"))
    for name in ("table.csv", "summary.csv"):
        assert (again.path / name).read_bytes() == (study.path / name).read_bytes()


def test_points_are_the_first_of_the_seed_and_lie_in_training_images(finished: tuple[Path, StudyConfig, Study]) -> None:
    study = finished[2]
    tables = [read_points(study.points(seed)) for seed in range(2)]
    assert set(tables[0].images) <= {"train0", "train1"}
    assert not np.array_equal(tables[0].places, tables[1].places)
    used = read_points(study.nets / "scratch-0-4.csv")
    assert np.bincount(used.classes).tolist() == [2, 2]
    assert np.array_equal(used.places, tables[0].places[tables[0].first(4)])


def test_tuning_begins_from_the_net_of_the_contrast_run(finished: tuple[Path, StudyConfig, Study]) -> None:
    folder, config, study = finished
    copied = folder / "tuned"
    shutil.copytree(study.path, copied)
    tuned = config.model_copy(update={"methods": ("tuned",), "points": (20,), "seeds": 1})
    again = begin_study(tuned, copied)
    assert run_study(again) == 1
    write_page(Results.of(again))
    before = (again.path / "cells/tuned/seed-0/20.json").read_text()
    (again.path / "cells/tuned/seed-0/20.json").unlink()
    assert run_study(again) == 1  # goes on from the run that is there
    assert json.loads((again.path / "cells/tuned/seed-0/20.json").read_text())["test"] == json.loads(before)["test"]
    parent = RunFolder(again.nets / "tuned-0-20").provenance()["parent"]
    assert parent["name"] == "contrast-0"
    assert all("head" in name for name in parent["not_in_parent"])
    (spent,) = {row["prepared"] for row in Results.of(again).times()}
    assert spent == RunFolder(again.nets / "contrast-0").provenance()["cpu_seconds"]
    assert RunFolder(again.nets / "scratch-0-20").provenance().get("parent") is None


def test_points_and_seeds_may_be_added_and_nothing_else(finished: tuple[Path, StudyConfig, Study]) -> None:
    folder, config, study = finished
    more = config.model_copy(update={"points": (4, 8, 20), "methods": ("pixels",)})
    before = {path: path.stat().st_mtime_ns for path in (study.path / "cells").glob("**/*.json")}
    copied = folder / "more"
    shutil.copytree(study.path, copied)
    again = begin_study(more, copied)
    assert run_study(again) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UserError, match="begun with other settings"):
        begin_study(config.model_copy(update={"thresholds": (0.4,)}), copied)


def test_the_page_names_all_methods(finished: tuple[Path, StudyConfig, Study]) -> None:
    write_page(Results.of(finished[2]))
    page = (finished[2].path / "report.html").read_text()
    assert all(name in page for name in ("embedding with head", "end to end", "head on pixels", "random forest"))


def test_the_chosen_look_and_threshold_are_best_on_validation(finished: tuple[Path, StudyConfig, Study]) -> None:
    for cell in finished[2].cells():
        row = cell.read()
        assert row["validation"] == max(look["validation"] for look in row["looks"])


def test_scores_are_those_of_the_truth_itself(finished: tuple[Path, StudyConfig, Study]) -> None:
    config = finished[1]
    sets = Sets.open(config, normaliser_of(config))
    scorer = Scorer(config, sets.test)

    def truth(image: Any) -> np.ndarray:
        inside = scorer.images[0][1][0][1][None] > 0
        return np.stack([~inside, inside]).astype(np.float32)

    assert scorer.figures(truth, config.ways) == [1.0, 1.0]
    empty = lambda image: np.stack([truth(image)[0] * 0 + 1, truth(image)[1] * 0])  # noqa: E731
    assert scorer.figures(empty, config.ways) == [0.0, 0.0]


def test_head_and_baseline_read_the_intensities_beside_the_embedding(
    finished: tuple[Path, StudyConfig, Study], tmp_path: Path
) -> None:
    beside = finished[1].to_dict()
    beside["contrast"]["set"]["task.beside"] = [0, 2.0]
    config = StudyConfig.load(beside)
    assert scratch_recipe(config, 0, tmp_path / "points.csv").task.beside == (0, 2.0)  # type: ignore[union-attr]
    sets = Sets.open(config, normaliser_of(config))
    learner = learner_of("embedding", config, 0, {image.name: image for image in sets.train}, tmp_path)
    table = read_points(finished[2].points(0))
    (look, *_) = learner.looks(table, 4)
    assert look.maps(sets.test[0]).shape == (2, 1, 64, 64)
    assert learner._at(table, table.first(4))[0].shape == (4, 4 + 2)  # type: ignore[attr-defined]


def test_learnt_channels_are_trusted_as_far_as_is_asked(
    finished: tuple[Path, StudyConfig, Study], tmp_path: Path
) -> None:
    values = finished[1].to_dict()
    values["contrast"]["set"]["task.beside"] = [0]
    values["head"] = {"steps": [20], "trust": [1, 1e-6]}
    config = StudyConfig.load(values)
    sets = Sets.open(config, normaliser_of(config))
    images, table = {image.name: image for image in sets.train}, read_points(finished[2].points(0))
    trusting, not_at_all = learner_of("embedding", config, 0, images, tmp_path).looks(table, 20)
    assert [trusting.name, not_at_all.name] == ["20 steps", "20 steps, trust 1e-06"]
    bright = whole(sets.test[0])[0]
    alike = bright == bright[0, 0, 0]
    assert np.ptp(not_at_all.maps(sets.test[0])[1][alike]) < 1e-4 < np.ptp(trusting.maps(sets.test[0])[1][alike])


def test_sections_of_a_volume_are_scored_by_themselves(tmp_path: Path) -> None:
    values = volume_values(tmp_path)
    labels = np.zeros((6, 40, 40), np.uint8)
    labels[:, 4:20, 4:20] = labels[:, 4:20, 24:36] = 255
    labels[3, 4:20, 20:24] = 255  # one section joins the two
    tifffile.imwrite(tmp_path / "test" / "labels" / "test.tif", labels, metadata={"axes": "ZYX"})
    test = {**values["test"], "components": True}
    joined, each = (
        StudyConfig.load(
            {**values, "test": test, "sections": sections, "objects": {"kind": "membranes", "min_size": 20}}
        )
        for sections in (False, True)
    )
    image = Sets.open(joined, normaliser_of(joined)).test[0]
    assert [int(truth.max()) for _, truth in Scorer(joined, [image]).images[0][1]] == [1]
    assert [int(truth.max()) for _, truth in Scorer(each, [image]).images[0][1]] == [2, 2, 2, 1, 2, 2]
    probable = np.stack([labels == 0, labels > 0]).astype(np.float32)
    assert Scorer(each, [image]).figures(lambda _: probable, each.ways)[0] < 0.05
    with pytest.raises(UserError, match="sections is for volumes"):
        StudyConfig.load({**study_values(tmp_path / "flat"), "sections": True})


def test_volumes_are_studied_as_volumes(tmp_path: Path) -> None:
    study = done(StudyConfig.load(volume_values(tmp_path)), tmp_path / "out")
    rows = Results.of(study).table()
    assert {row["method"] for row in rows} == {"embedding", "scratch", "pixels", "forest"}
    assert next(row["test"] for row in rows if row["method"] == "pixels") < 1.0
    assert all(read_points(study.points(0)).places[:, 0] < 6)


def test_sets_that_share_voxels_are_refused(tmp_path: Path) -> None:
    values = study_values(tmp_path)
    for name, other in (("validation", "test"), ("test", "val")):
        with pytest.raises(UserError, match="voxels in common"):
            begin_study(StudyConfig.load({**values, name: {"path": str(tmp_path / other)}}), tmp_path / "out")
    pool = {**values, "pool": [{"path": str(tmp_path / "train")}, {"path": str(tmp_path / "test")}]}
    with pytest.raises(UserError, match="is in pool and in test"):
        begin_study(StudyConfig.load(pool), tmp_path / "out")
    with pytest.raises(UserError, match="for validation or test"):
        begin_study(StudyConfig.load({**values, "train": values["test"], "test": values["train"]}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ways_of_making_objects_are_chosen_from(finished: tuple[Path, StudyConfig, Study], tmp_path: Path) -> None:
    values = finished[1].to_dict()
    nothing = {**values["objects"], "min_size": 4000}  # drops every cell
    several = StudyConfig.load(
        {**values, "objects": [nothing, values["objects"]], "methods": ["pixels"], "points": [20]}
    )
    found = Results.of(done(several, tmp_path / "out")).table()
    assert {row["objects"] for row in found} == {1}
    alone = {
        row["seed"]: row["test"]
        for row in Results.of(finished[2]).table()
        if (row["method"], row["points"]) == ("pixels", 20)
    }
    assert {row["seed"]: row["test"] for row in found} == alone


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"thresholds": [1.5]}, "outside"),
        ({"points": [50, 10]}, "rise"),
        ({"colour": 3}, "unknown key 'colour'"),
        ({"objects": {"kind": "watershed", "min_sise": 3}}, "min_sise"),
        ({"contrast": {"recipe": "contrast", "set": {"task.temprature": 1}}}, "temprature"),
        ({"contrast": {"recipe": "contrast", "set": {"data.sources": []}}}, "which the study does"),
        ({"scratch": {"recipe": "contrast"}}, "of the task 'contrast'"),
        ({"classes": {"kind": "boundary"}, "points": [2]}, "cannot show the 3 classes"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        begin_study(load(tmp_path, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changes_go_into_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study_values(tmp_path)))
    found = read_study(file, ["seeds=1", "contrast.set.trainer.steps=7", "contrast.set.task.net.features=[6, 6]"])
    own = read_study(file)
    assert (found.seeds, contrast_recipe(found, 3).trainer.steps, contrast_recipe(found, 3).seed) == (1, 7, 3)
    assert contrast_recipe(found, 0).task.net.features == (6, 6)  # type: ignore[union-attr]
    assert contrast_recipe(found, 0).trainer.batch_size == contrast_recipe(own, 0).trainer.batch_size
    assert found.scratch == own.scratch


def test_tables_hold_what_is_recorded(finished: tuple[Path, StudyConfig, Study]) -> None:
    study = finished[2]
    with (study.path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cell = json.loads((study.path / "cells/pixels/seed-1/20.json").read_text())
    row = next(r for r in rows if (r["method"], r["points"], r["seed"]) == ("pixels", "20", "1"))
    assert float(row["test"]) == pytest.approx(cell["test"], abs=1e-5)
