"""Runs that predict together: the mean of what each gives, and only where a mean means anything."""

import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.measure import label

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.nets.ensemble import Ensemble
from lamella.nets.unet import UNetConfig
from lamella.recipe.segmenter import load_segmenter
from lamella.recipe.translator import load_translator
from tests.data.experiments import make_frames
from tests.tasks.segment.specimen import cells

FAST = ["trainer.steps=2", "trainer.batch_size=2", "trainer.panels_every=0", "trainer.precision='32'", "task.trim=1.0"]
NET = "task.net={kind: unet, features: [4, 4], down: [2]}"


def run(words):
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Translate runs of two seeds (one of another net) and segment runs of two seeds, of two steps each."""
    here = tmp_path_factory.mktemp("members")
    make_frames(here / "frames", targets=1)
    for kind in ("images", "labels"):
        (here / "cells" / kind).mkdir(parents=True)
    image = cells(64, 64, seed=0)
    iio.imwrite(here / "cells" / "images" / "x.png", image)
    iio.imwrite(here / "cells" / "labels" / "x.png", label(image > 100).astype(np.uint8))
    of_frames = [
        f"data.sources.0.path={here}/frames",
        "data.inputs=[0]",
        "data.targets=[1]",
        "data.crop=32",
        "data.overhang=0",
    ]
    of_frames += ["data.split=null", "validation=null", "trainer.best=[]"]
    of_cells = [f"data.sources.0.path={here}/cells", "data.crop=48", "data.overhang=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for name, recipe, more in [
            ("stain0", "translate", [NET, *of_frames, "seed=0"]),
            ("stain1", "translate", [NET, *of_frames, "seed=1"]),
            ("deeper", "translate", [NET.replace("[4, 4], down: [2]", "[4, 4, 8], down: [2, 3]"), *of_frames]),
            ("valid", "translate", [NET.replace("down: [2]", "down: [2], padding: valid"), *of_frames]),
            ("cells0", "segment", [NET, *of_cells, "seed=0"]),
            ("cells1", "segment", [NET, *of_cells, "seed=1"]),
        ]:
            run(["train", recipe, *more, *FAST, "--name", name])
    return here


def views(here, *runs):
    """What translators give for a position, on the scale of training."""
    found = []
    for names in runs:
        translator, _ = load_translator(names, device="cpu", runs=here / "runs")
        view = translator.view(open_volume(str(here / "frames"), dataset="p000"))
        image = view.read(view.box)[0][list(translator.channels(view))]
        y, x = (n // 6 * 6 for n in image.shape[2:])  # whole strides of all nets; what is beyond is mirrored
        found.append(translator.op(image[..., :y, :x]))
    return found


def test_several_runs_give_the_mean_of_what_each_gives(trained):
    first, second, both = views(trained, "stain0", "stain1", "stain0,stain1")
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)


def test_nets_of_different_depth_are_averaged_too(trained):
    first, deeper, both = views(trained, "stain0", "deeper", "stain0,deeper")
    np.testing.assert_allclose(both, (first + deeper) / 2, atol=1e-5)
    nets = [
        load_translator(n, device="cpu", runs=trained / "runs")[0].net for n in ("stain0", "deeper", "deeper,stain0")
    ]
    assert [net.stride[-1] for net in nets] == [2, 6, 6]
    assert nets[2].context == nets[1].context > nets[0].context


def test_nets_that_cut_off_different_margins_are_refused():
    nets = [
        UNetConfig.load({"features": f, "down": d, "padding": "valid"}).build(1, 1)
        for f, d in (([4, 4], [2]), ([4, 4, 4], [2, 2]))
    ]
    with pytest.raises(UserError, match="margins"):
        Ensemble(nets)


def test_a_run_with_itself_is_itself(trained):
    once, twice = views(trained, "stain0", "stain0,stain0:last")
    np.testing.assert_allclose(once, twice, atol=1e-6)


def test_commas_in_the_path_of_a_run_part_nothing(trained):
    shutil.copytree(trained / "runs" / "stain0", trained / "runs" / "Smith, J")
    once, moved = views(trained, "stain0", str(trained / "runs" / "Smith, J"))
    by_name, _ = load_translator("Smith, J:last", device="cpu", runs=trained / "runs")
    np.testing.assert_array_equal(once, moved)
    assert by_name.identity() == load_translator("stain0", device="cpu", runs=trained / "runs")[0].identity()


def test_logits_of_segmentations_are_averaged(trained):
    patch = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    nets = [
        load_segmenter(n, device="cpu", runs=trained / "runs")[0].net for n in ("cells0", "cells1", "cells0,cells1")
    ]
    import torch

    with torch.inference_mode():
        first, second, both = (net(torch.from_numpy(patch)) for net in nets)
    torch.testing.assert_close(both, (first + second) / 2)


def test_predictions_say_of_which_runs_they_are(trained, monkeypatch):
    monkeypatch.chdir(trained)
    run(["predict", "stain0,stain1", "frames", "--output", "stained", "--format", "ome-zarr"])
    told = open_volume("stained/p000.ome.zarr").meta.provenance
    assert [member["run"] for member in told["members"]] == ["stain0", "stain1"]
    assert [member["recipe"]["seed"] for member in told["members"]] == [0, 1]
    run(["predict", "cells0,cells1", "cells/images", "--output", "segmented"])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("stain0,valid", r"'stain0' and 'valid' differ in task.net.padding"),
        ("stain0,", "without a comma at either end"),
        ("stain0,nobody", "no run 'nobody'"),
        ("stain0,cells0", "task"),
    ],
)
def test_runs_that_cannot_be_averaged_are_refused(names, told, trained):
    with pytest.raises(UserError, match=told):
        load_translator(names, device="cpu", runs=trained / "runs")
