"""The demonstration of translation goes through, tells the truth, and goes on where it was stopped. Small, so it shows that it
works, not how well."""

import json
import shutil

import pytest

from lamella.core.errors import UserError
from lamella.io import open_volume, positions_of, present
from lamella.recipe import demo_translate as module
from lamella.recipe.demo_settings import DemoSettings
from lamella.recipe.demo_translate import demo_recipe, run_demo

TINY = DemoSettings(images=6, size=128, steps=2, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo") / "demo", TINY)


def test_goes_through(whole):
    demo, found = whole
    page = demo.report.read_text()
    assert "With your own images" in page
    assert "http" not in page.replace("http-equiv", "")
    assert list(demo.seconds) == ["data", "prep", "train", "predict", "ridge", "evaluate"]
    assert {part: len(names) for part, names in demo.split.items()} == {"train": 4, "validation": 1, "test": 1}
    assert demo.run.recipe()["data"]["split"]["parts"]["test"] == demo.split["test"]
    assert positions_of(demo.out / "predicted") == tuple(demo.split["test"])
    assert [row["channel"] for row in found.net.figures] == ["nuclei", "cytoplasm"]


def test_both_are_scored_on_the_same_planes_and_scale(whole):
    demo, found = whole
    for scores in (found.net, found.ridge):
        assert [s.subject.position for s in scores.scored["xy"]] == demo.split["test"] * 2
        assert [s.row["z"] for s in scores.scored["xy"]] == [3, 3]
    assert found.net.scales == found.ridge.scales


def test_the_regression_sees_what_the_net_sees_and_finds_something(whole):
    _, found = whole
    assert min(row["pearson"] for row in found.ridge.figures) > 0.3


def test_refuses_to_replace_and_to_mix(whole):
    from lamella.recipe.demo_segment import run_demo as segment

    demo, _ = whole
    with pytest.raises(UserError, match="--overwrite"):
        run_demo(demo.out, TINY)
    with pytest.raises(UserError, match="demonstration of translate"):
        segment(demo.out, DemoSettings(), overwrite=True)


def test_goes_on_with_ones_own_frames_where_it_was_stopped(whole, tmp_path, monkeypatch):
    own = tmp_path / "own"
    shutil.copytree(whole[0].out / "frames", own)
    (own / "lamella.json").unlink()
    settings = DemoSettings(data=str(own), steps=2, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_predict", _stop)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "mine", settings)
    assert list(json.loads((tmp_path / "mine" / "demo.json").read_text())["seconds"]) == ["data", "prep", "train"]
    demo, _ = run_demo(tmp_path / "mine", settings)
    assert demo.report.exists()
    assert not (tmp_path / "mine" / "frames").exists()


def test_light_that_cannot_be_measured_is_told_and_taken_as_it_is(whole, tmp_path, monkeypatch, capsys):
    demo, _ = whole
    shutil.copytree(demo.out, tmp_path / "demo", ignore=shutil.ignore_patterns("frames.prep"))
    copy = module.TranslateDemo(tmp_path / "demo", TINY)
    assert "taken as it is, since so few" in demo.report.read_text()
    monkeypatch.setattr(module, "_FEWEST_LIT", 2)
    module._prep(copy)
    assert copy.measures.statistics is not None
    assert bool(copy.measures.shading) != ("the light is taken as it is" in capsys.readouterr().err)


def _stop(*_):
    raise KeyboardInterrupt


def test_frames_that_do_not_do_are_refused(whole, tmp_path):
    frames = whole[0].out / "frames"
    few, dull = tmp_path / "few", tmp_path / "dull"
    for folder, pattern in ((few, "im_*p00[01].png"), (dull, "im_c000_*.png")):
        folder.mkdir()
        for file in frames.glob(pattern):
            shutil.copy(file, folder)
    for folder, word in ((few, "at least 3"), (dull, "one channel")):
        with pytest.raises(UserError, match=word):
            run_demo(tmp_path / "out", DemoSettings(data=str(folder)))
    assert not (tmp_path / "out").exists()


def test_the_depth_follows_the_stack(whole):
    demo, _ = whole
    assert demo_recipe(demo, 2).data.depth == 5
    assert open_volume(demo.source, dataset="p000").box.shape[2] == 7
    assert present(open_volume(demo.source, dataset="p000")).sum() == 9
