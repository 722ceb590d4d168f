"""The demonstration goes through, tells the truth, and goes on where it was stopped. Small, so it shows that it works, not how well."""

import json

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.recipe import demo as module
from lamella.recipe.demo import run_demo
from lamella.recipe.demo_settings import DemoSettings

TINY = DemoSettings(sections=5, size=128, steps=2, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    return run_demo(out, TINY)


def test_goes_through(whole):
    demo, found = whole
    page = demo.report.read_text()
    assert "With your own sections" in page
    assert "http" not in page.replace("http-equiv", "")
    assert list(demo.seconds) == ["specimen", "train", "align", "evaluate"]
    assert found.totals["endpoint"].count > 0
    assert found.method is not None
    assert open_volume(demo.aligned).box.shape == (5, 128, 128)


def test_errors_before_are_those_of_the_specimen(whole):
    demo, found = whole
    truth = open_volume(demo.specimen.truth)
    lengths = np.hypot(*truth.read(truth.box).astype(np.float64))
    assert found.totals["endpoint before"].mean == pytest.approx(np.nanmean(lengths), rel=1e-6)
    assert np.nanmax(lengths[0]) == 0


def test_refuses_to_replace_and_to_mix(whole, tmp_path):
    demo, _ = whole
    with pytest.raises(UserError, match="--overwrite"):
        run_demo(demo.out, TINY)
    with pytest.raises(UserError, match="other settings"):
        run_demo(demo.out, TINY.model_copy(update={"seed": 1}))
    (tmp_path / "letter.txt").write_text("not a demonstration")
    with pytest.raises(UserError, match="no demonstration"):
        run_demo(tmp_path, TINY)


def test_goes_on_with_ones_own_sections_where_it_was_stopped(whole, tmp_path, monkeypatch):
    finished, _ = whole
    settings = TINY.model_copy(update={"data": finished.source, "sections": 4})
    with monkeypatch.context() as patch:
        patch.setattr(module, "align_volume", _stop)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "mine", settings)
    steps = json.loads((tmp_path / "mine/demo.json").read_text())["seconds"]
    assert list(steps) == ["train"]
    demo, found = run_demo(tmp_path / "mine", settings)
    assert demo.seconds["train"] == steps["train"]
    assert "endpoint" not in found.totals
    assert open_volume(demo.aligned).box.shape == (4, 128, 128)
    assert not (tmp_path / "mine/specimen").exists()


def _stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_sections_that_cannot_be_aligned_are_refused(tmp_path, whole):
    demo, _ = whole
    for data, message in [(demo.specimen.truth, "axes c z y x"), (str(tmp_path / "none"), "does not exist")]:
        with pytest.raises(UserError, match=message):
            run_demo(tmp_path / "out", TINY.model_copy(update={"data": data}))
        assert not (tmp_path / "out").exists()
