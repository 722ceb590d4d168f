"""The demonstration of segmentation goes through, tells the truth, and goes on where it was stopped. Small, so it shows that it
works, not how well."""

import json
import shutil

import numpy as np
import pytest
import tifffile

from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.io.pairs import find_pairs
from lamella.recipe import demo_segment as module
from lamella.recipe.demo_segment import run_demo, thresholded
from lamella.recipe.demo_settings import DemoSettings
from lamella.tasks.segment.baseline import otsu_instances

TINY = DemoSettings(images=6, size=128, steps=2, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo") / "demo", TINY)


def test_goes_through(whole):
    demo, _ = whole
    page = demo.report.read_text()
    assert "With your own images" in page
    assert "http" not in page.replace("http-equiv", "")
    assert list(demo.seconds) == ["data", "train", "predict", "threshold", "evaluate"]
    assert demo.run.recipe()["data"]["sources"][0]["ignore"] == [1]
    split = json.loads((demo.out / "split.json").read_text())
    assert {part: len(names) for part, names in split.items()} == {"train": 3, "val": 1, "test": 2}


def test_the_threshold_is_scored_against_the_truth(whole):
    demo, found = whole
    count = 0
    for pair in demo.split()["test"]:
        labels, truth = (open_volume(path) for path in (thresholded(demo, pair), pair.labels))
        assert np.array_equal(labels.read(labels.box), otsu_instances(tifffile.imread(pair.image)))
        assert labels.meta.voxel_size == open_volume(pair.image).meta.voxel_size
        count += len(set(np.unique(truth.read(truth.box))) - {0, 1})
    assert found.otsu.figures()["true"] == found.net.figures()["true"] == count
    assert found.net.baseline.figures["AP50_pool"] == pytest.approx(found.otsu.figures()["AP50_pool"])


def test_refuses_to_replace_and_to_mix(whole, tmp_path):
    from lamella.recipe.demo import run_demo as align

    demo, _ = whole
    with pytest.raises(UserError, match="--overwrite"):
        run_demo(demo.out, TINY)
    with pytest.raises(UserError, match="other settings"):
        run_demo(demo.out, TINY.model_copy(update={"seed": 1}))
    with pytest.raises(UserError, match="demonstration of segment"):
        align(demo.out, DemoSettings(), overwrite=True)


def own(demo, folder, num):
    """Images with masks beside them, as many as asked for."""
    folder.mkdir()
    pairs = [p for part in ("train", "val", "test") for p in find_pairs(str(demo.out / "specimen" / part))][:num]
    for k, pair in enumerate(pairs):
        shutil.copy(pair.image, folder / f"x{k}.tif")
        shutil.copy(pair.labels, folder / f"x{k}_masks.tif")
    return str(folder)


def test_goes_on_with_ones_own_images_where_it_was_stopped(whole, tmp_path, monkeypatch):
    data = own(whole[0], tmp_path / "own", 6)
    settings = DemoSettings(data=data, steps=2, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_predict", _stop)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "mine", settings)
    steps = json.loads((tmp_path / "mine/demo.json").read_text())["seconds"]
    assert list(steps) == ["data", "train"]
    demo, found = run_demo(tmp_path / "mine", settings)
    assert demo.seconds["train"] == steps["train"]
    assert [image.subject.name for image in found.net.images] == [p.name for p in demo.split()["test"]]
    names = [p.name for part in demo.split().values() for p in part]
    assert sorted(names) == [f"x{k}" for k in range(6)]
    assert not (tmp_path / "mine/specimen").exists()


def _stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_images_that_cannot_be_used_are_refused(whole, tmp_path):
    few = own(whole[0], tmp_path / "few", 5)
    (tmp_path / "plain").mkdir()
    tifffile.imwrite(tmp_path / "plain/a.tif", np.zeros((8, 8), np.uint8))
    deep = tmp_path / "deep"
    own(whole[0], deep, 6)
    tifffile.imwrite(deep / "x0.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    for data, message in [
        (few, "5 labelled images; the demonstration needs at least 6"),
        (str(tmp_path / "plain"), r"a\.tif has no labels"),
        (str(deep), r"x0\.tif has axes z y x"),
        (str(tmp_path / "none"), "does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            run_demo(tmp_path / "out", DemoSettings(data=data))
        assert not (tmp_path / "out").exists()
