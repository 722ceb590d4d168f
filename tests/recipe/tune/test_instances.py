"""Tuning of instances: settings are found that part what the maps show, images are scored as the benchmark does, runs keep both."""

import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
import yaml
from skimage.measure import label

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.ops.matching import IGNORED, Overlaps
from lamella.ops.matching_scores import ObjectScores, compare
from lamella.recipe.load import load_run
from lamella.recipe.tune.candidates import config, first_values, kinds_for, near_values, space_of
from lamella.recipe.tune.instances import _search
from lamella.recipe.tune.method_report import Tried, left_out
from lamella.recipe.tune.method_scores import Sums, Unit, score_of
from lamella.recipe.tune.settings import MethodSettings
from tests.tasks.segment.specimen import cells

MAPS = ("objects", "boundaries", "distance")


def unit(folder, seed: int = 0) -> Unit:
    """Squares that the map of objects joins by bridges of probability 0.6: a threshold above it parts them."""
    truth = np.zeros((40, 44), np.int64)
    objects = np.full(truth.shape, 0.1, np.float32)
    for k in range(3):
        truth[4:14, 2 + 14 * k : 12 + 14 * k] = k + 1
        truth[20:32, 2 + 14 * k : 12 + 14 * k] = k + 4
    objects[truth > 0] = 0.9
    objects[8:10, 2:40] = np.maximum(objects[8:10, 2:40], 0.6)
    truth[20:32, 30:40] = IGNORED
    maps = np.stack([objects, np.zeros_like(objects), objects])
    np.save(folder / f"{seed}.maps.npy", maps)
    np.save(folder / f"{seed}.truth.npy", truth)
    return Unit(f"{seed}", folder / f"{seed}.maps.npy", folder / f"{seed}.truth.npy", MAPS, None)


def test_a_threshold_that_parts_the_objects_is_found(tmp_path):
    own = config({"kind": "components", "boundaries": "none"}).model_dump(mode="json")
    words = ["threshold=uniform(0.1,0.9)", "boundaries=none", "min_size=5", "opening=0", "dilation=0"]
    spaces = {"components": space_of("components", MAPS, words)}
    settings = MethodSettings(candidates=8, rounds=1, jobs=1)
    tried = _search([unit(tmp_path)], own, spaces, settings, tmp_path / "scores")
    assert len(tried) == 1 + 8 + 8
    assert tried[0].values == own
    assert tried[0].score == pytest.approx(2 / 6)  # 2 below; 3 in one above, of which none is found
    best = max(tried, key=lambda t: t.score)
    assert best.score == 1
    assert 0.6 <= best.values["threshold"] < 0.9
    again = _search([unit(tmp_path)], own, spaces, settings, tmp_path / "scores")  # reads what is there
    assert [t.values for t in again] == [t.values for t in tried]


def test_sums_of_images_are_the_scores_of_all_objects_together():
    rng = np.random.default_rng(0)
    pairs = [(label(rng.random((30, 30)) > 0.6), label(rng.random((30, 30)) > 0.6)) for _ in range(2)]
    pairs.append((pairs[0][0], np.roll(pairs[0][0], 1, 0)))
    sums = [Sums.of(t, p) for t, p in pairs]
    scores = [ObjectScores.of(compare(Overlaps.of(t, p))) for t, p in pairs]
    pooled = (scores[0] + scores[1] + scores[2]).figures()
    for name in ("AP50", "AP75", "mAP", "F1", "PQ", "SEG"):
        assert score_of(sums, name) == pytest.approx(pooled[name]), name
    assert score_of(sums, "mAP_img") == pytest.approx(np.mean([s.ap.mean() for s in scores]))


def counted(hits: int) -> Sums:
    return Sums(np.tile([hits, 10 - hits, 0], (10, 1)), np.zeros(3))


def test_the_score_on_images_left_out_is_that_of_what_the_others_chose():
    first = Tried({"kind": "a"}, [counted(9), counted(9), counted(1)], 0.0)
    second = Tried({"kind": "b"}, [counted(8), counted(2), counted(8)], 0.0)
    # without image 0 the second is chosen (10 against 10: the first of equal ones), without 1 and 2 the second and the first
    expected = score_of([first.sums[0], second.sums[1], first.sums[2]], "AP50")
    assert left_out([first, second], "AP50") == pytest.approx(expected)
    assert left_out([Tried({}, [counted(3)], 0.3)], "AP50") is None


def test_candidates_stay_in_their_ranges_and_come_closer():
    space = space_of("basins", MAPS, ["min_size=30"])
    assert space[1] == {"kind": "basins", "min_size": 30}
    first = first_values("basins", space, 32, 0)
    assert len(first) == 32
    assert {v["boundaries"] for v in first} == {"none", "soft", "hard"}
    best = {**first[0], "threshold": 0.5}
    for round_, width in ((1, 0.15), (2, 0.075)):
        near = near_values(space, best, 64, round_, 0)
        assert all(abs(v["threshold"] - 0.5) <= width * 0.8 + 1e-4 for v in near)
        assert all(config(v).build() for v in near)
    choices = space_of(
        "components", ("objects",), ["threshold=choice(0.2,0.5)", "min_size=choice(0,9)", "opening=1", "dilation=0"]
    )
    assert len(first_values("components", choices, 64, 0)) == 4  # all combinations


def test_methods_follow_the_maps():
    assert kinds_for(MAPS, (), "basins") == ["components", "watershed", "basins"]
    with pytest.raises(UserError, match="basins needs the map 'distance'"):
        kinds_for(("objects", "boundaries"), ("basins",), "components")
    with pytest.raises(UserError, match="no method 'basin'"):
        kinds_for(MAPS, ("basin",), "components")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few seconds on two small images, in ``runs/tiny`` of its own folder."""
    here = tmp_path_factory.mktemp("trained")
    for kind in ("images", "labels"):
        (here / "cells" / kind).mkdir(parents=True)
    for k in range(2):
        image = cells(48, 48, seed=k)
        iio.imwrite(here / "cells" / "images" / f"x{k}.png", image)
        iio.imwrite(here / "cells" / "labels" / f"x{k}.png", label(image > 100).astype(np.uint8))
    words = ["train", "segment", "data.sources.0.path=cells", "data.crop=32", "--name", "tiny", "data.overhang=0"]
    words += ["task.net={kind: unet, features: [4, 4], down: [2]}", "task.trim=1.0", "trainer.steps=80"]
    words += ["trainer.batch_size=4", "trainer.panels_every=0", "trainer.precision='32'", "trainer.learning_rate=0.02"]
    words += ["task.instances={kind: components, threshold: 0.98}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with pytest.raises(SystemExit) as stopped:
            main(words)
    assert not stopped.value.code
    return here


def tune(*words: str) -> int | None:
    with pytest.raises(SystemExit) as stopped:
        main(["tune", "instances", *words, "--candidates", "4", "--rounds", "1", "--jobs", "1"])
    return stopped.value.code


def test_a_tuned_run_predicts_with_the_winner_and_keeps_its_recipe(trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "runs" / "tiny" / "recipe.yaml").read_text()
    words = ["tiny", "cells", "out", "boundaries=none"]
    assert not tune(*words)
    assert (tmp_path / "runs" / "tiny" / "recipe.yaml").read_text() == before
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())["task"]["instances"]
    assert not tune(*words, "--apply")
    assert load_run("tiny").recipe.task.to_dict()["instances"] == best
    assert yaml.safe_load((tmp_path / "runs/tiny/recipe.untuned.yaml").read_text()) == yaml.safe_load(before)
    (record,) = json.loads((tmp_path / "runs/tiny/provenance.json").read_text())["tuned_instances"]
    assert record["after"] == best
    assert not tune(*words, "--apply")  # the run's recipe is another now, the tuning the same
    assert len(load_run("tiny").folder.provenance()["tuned_instances"]) == 1
    capsys.readouterr()
    assert tune(*words, "--score", "F1") == 2
    assert "settings.score was 'AP50', is 'F1'" in capsys.readouterr().err


def test_mistakes_are_told_before_anything_is_written(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    for words, told in [
        (["nobody", "cells", "out"], "no run 'nobody'"),
        (["tiny", "nowhere", "out"], "nowhere does not exist"),
        (["tiny", "cells", "out", "--kind", "basin"], "no method 'basin'; choose among components"),
        (["tiny", "cells", "out", "treshold=0.5"], "'treshold=0.5' names no setting of components or"),
        (["tiny", "cells", "out", "threshold=uniform(0.5,7)"], "threshold is 7.0"),
        (["tiny", "cells", "out", "--names", "none.txt"], "none.txt"),
        (["tiny", "cells/images", "out"], "no labels"),
    ]:
        assert tune(*words) == 2, words
        assert told in capsys.readouterr().err
    assert not (trained / "out").exists()
