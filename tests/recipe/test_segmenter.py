"""A run predicts from its folder alone: copied elsewhere it gives the same bytes; what it says of data reaches the segmenter."""

import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.measure import label

from lamella.cli.main import main
from tests.tasks.segment.specimen import cells


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps on two small images, in ``runs/tiny`` of its own folder."""
    here = tmp_path_factory.mktemp("trained")
    for kind in ("images", "labels"):
        (here / "cells" / kind).mkdir(parents=True)
    for k in range(2):
        image = cells(64, 64, seed=k)
        iio.imwrite(here / "cells" / "images" / f"x{k}.png", image)
        iio.imwrite(here / "cells" / "labels" / f"x{k}.png", label(image > 100).astype(np.uint8))
    words = ["train", "segment", "data.sources.0.path=cells", "data.crop=48", "data.context=4", "--name", "tiny"]
    words += ["task.net={kind: unet, features: [4, 4], down: [2]}", "task.trim=1.0", "data.overhang=0"]
    words += ["trainer.steps=2", "trainer.batch_size=2", "trainer.panels_every=0", "trainer.precision='32'"]
    run(here, words)
    return here


def run(here: Path, words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        try:
            main(words)
        except SystemExit as end:
            if end.code:
                raise


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def test_a_run_copied_elsewhere_predicts_the_same_bytes(trained, tmp_path):
    shutil.copytree(trained / "runs" / "tiny", tmp_path / "elsewhere")
    shutil.copytree(trained / "cells" / "images", tmp_path / "images")
    run(trained, ["predict", "tiny", "cells/images", "--output", "predicted", "--maps", "--plot"])
    run(tmp_path, ["predict", "elsewhere", "images", "--output", "predicted", "--maps", "--plot"])
    first, second = (written(here / "predicted") for here in (trained, tmp_path))
    assert len(first) == 2 * (1 + 3 + 1)
    assert first == second


def test_what_training_showed_is_what_prediction_shows(trained):
    from lamella.recipe.segmenter import load_segmenter

    segmenter, facts = load_segmenter(trained / "runs" / "tiny", device="cpu")
    assert segmenter.mirror == 4
    assert segmenter.normaliser.kind == "percentile"
    assert segmenter.method.config.merge == facts["recipe"]["task"]["instances"]["merge"]
    assert facts["checkpoint"] == "last"


def test_mistakes_are_told_before_anything_is_written(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(trained / "runs" / "tiny")
    for words, told in [
        (["predict", path, "--output", "out"], "no images are named"),
        (["predict", path, "nowhere.tif", "--output", "out"], "nowhere.tif does not exist"),
        (["predict", path, str(trained / "cells"), "--output", "out.tif"], "is one file, but there are 2 images"),
        (["predict", "nobody", "x.tif", "--output", "out"], "no run 'nobody'"),
        (["predict", path, str(trained / "cells"), "--output", "out", "--device", "cuda:9"], "device 'cuda:9'"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        said = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code == 2
        assert told in said[-1]
        assert said[-1].startswith("error: ")
        assert list(tmp_path.iterdir()) == []
