"""From a contrast run to heads and their predictions: what is taken over, what is refused, and that all ways give the same."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import torch

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.data.inputs import find_images
from lamella.infer import InferSettings
from lamella.io import open_volume
from lamella.recipe.find import load_recipe
from lamella.recipe.head import load_head
from lamella.recipe.load import load_run
from lamella.recipe.train import train
from lamella.runs import RunFolder
from lamella.tasks.head import predict as predicting
from lamella.tasks.head.predict import predict_images
from lamella.tasks.head.predict_settings import PredictSettings
from tests.data.labelled import cells, write

NET = "task.net={kind: unet, features: [4, 6], down: [2], edges: replicate}"
STEPS = [
    f"trainer.{v}"
    for v in ("steps=2", "batch_size=2", "log_every=1", "device=cpu", "precision='32'", "panels_every=0", "graph=false")
]
LEARNT = ["task.h_channels=3", "task.beside=[0, 1.5]"]  # and two channels of intensities, which makes five
CONTRAST = ["data.crop=32", "data.overhang=0", "task.point_density=0.1", *LEARNT, NET, *STEPS]
EXACT = InferSettings(precision="float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, points of them, a contrast run, and embeddings by it."""
    folder = tmp_path_factory.mktemp("pipelines")
    for k in range(2):
        write(folder / "set", f"i{k}", *cells((48, 44), seed=k))
    write(folder / "other", "i9", *cells((48, 44), seed=9))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran("train", "contrast", "data.sources.0.path=set/images", *CONTRAST, "--name", "first")
        ran("train", "contrast", "data.sources.0.path=set/images", *CONTRAST, "seed=1", "--name", "second")
        ran("prep", "points", "set", "points.csv", "--total", "40")
        ran("embed", "first", "set/images", "embedded", "--preview", "none", "--dtype", "float32")
        ran("embed", "second", "set/images", "others", "--preview", "none")
        stored = ["data.sources.0.path=embedded", "task.channels=5", "data.per_sample=20", *STEPS]
        ran("train", "head_points", *stored, "--name", "stored")
        dense = ["data.sources.0.path=set", "data.crop=32", "trainer.steps=3", *STEPS[1:]]
        ran("train", "head", *dense, "--from", "first:last", "--name", "dense")
        affine = [
            *dense,
            "task.target={kind: affinities, offsets: [[-1, 0], [0, -1], [-4, 0]]}",
            "task.freeze_base=false",
        ]
        ran("train", "head", *affine, "--from", "first", "--name", "affine")
        base = ["data.sources.0.path=set/images", NET, "task.h_channels=5", "data.crop=32", "data.context=4", *STEPS]
        ran("train", "head_baseline", *base, "--name", "baseline")
    return folder


def ran(*words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert not stopped.value.code, words


def refused(capsys, message, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _inside(place, monkeypatch):
    monkeypatch.chdir(place)


def image(name="i0"):
    return tifffile.imread(f"set/images/{name}.tif")


def test_a_head_takes_net_scaling_and_weights_over():
    contrast, dense = load_run("first:last"), load_run("dense:last")
    assert dense.recipe.task.net == contrast.recipe.task.net
    assert (dense.recipe.task.h_channels, dense.recipe.task.beside) == (3, (0, 1.5))
    assert dense.recipe.data.normaliser == contrast.recipe.data.normaliser
    assert RunFolder.open("dense").parent()["name"] == "first"
    for name, value in contrast.task.net.base.state_dict().items():
        assert torch.equal(dense.task.net.base.state_dict()[name], value)
    tuned = load_run("affine:last").task.net.base.state_dict()
    assert any(not torch.equal(tuned[n], v) for n, v in contrast.task.net.base.state_dict().items())


@pytest.mark.parametrize(
    ("run", "name", "outputs"),
    [("dense", "classes", 3), ("stored", "classes", 2), ("affine", "affinities", 3), ("baseline", "classes", 2)],
)
def test_maps_of_arrays_volumes_and_blocks_are_one(run, name, outputs, tmp_path):
    predictor, facts = load_head(run, EXACT)
    found = predictor.maps(image())
    assert list(found) == [name] == [predictor.name]
    assert found[name].shape == (outputs, 48, 44)
    assert len(predictor.channel_names) == outputs
    assert predictor.offsets == (((-1, 0), (0, -1), (-4, 0)) if run == "affine" else ())
    if name == "classes":
        np.testing.assert_allclose(found[name].sum(0), 1, atol=1e-5)
    assert found[name].std() > 1e-5
    volume = open_volume("set/images/i0.tif")
    np.testing.assert_allclose(predictor.maps(volume)[name], found[name], atol=1e-6)
    images = find_images(["set/images"], predictor)
    done = predict_images(images, str(tmp_path / "out"), predictor, PredictSettings(maps=True, block=32), facts=facts)
    assert len(done.volumes) == 2
    path = tmp_path / "out" / ("i0.ome.zarr" if name == "affinities" else "i0.maps.ome.zarr")
    written = open_volume(path)
    assert written.meta.channel_names == predictor.channel_names
    np.testing.assert_allclose(written.read(written.box), found[name], atol=1e-5)
    if name == "classes":
        classes = open_volume(done.volumes[0])
        assert (classes.read(classes.box) == written.read(written.box).argmax(0)).all()


def test_stored_embeddings_give_what_the_image_gives():
    predictor, _ = load_head("stored", EXACT)
    assert predictor.origin.run == "first"
    stored = open_volume("embedded/i0.ome.zarr")
    by_image, by_volume = predictor.maps(image())["classes"], predictor.maps(stored)["classes"]
    np.testing.assert_allclose(by_volume, by_image, atol=1e-5)
    np.testing.assert_allclose(predictor.maps(stored.read(stored.box))["classes"], by_volume, atol=1e-6)
    with pytest.raises(UserError, match=r"holds embeddings of second:.*, and this needs those of first:"):
        predictor.maps(open_volume("others/i0.ome.zarr"))


def test_without_its_base_a_head_takes_embeddings_alone(tmp_path, place):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "stored").symlink_to(place / "runs" / "stored")
    other = tmp_path / "copy"
    shutil.copytree(place / "runs" / "stored", other)
    predictor, _ = load_head(other, EXACT, runs=tmp_path / "runs")
    assert predictor.through is None
    assert predictor.maps(open_volume("embedded/i0.ome.zarr"))["classes"].shape == (2, 48, 44)
    with pytest.raises(UserError, match="this head reads embeddings of first:"):
        predictor.maps(open_volume("set/images/i0.tif"))


def test_heads_on_images_refuse_embeddings_and_mirrored_affinities():
    dense, _ = load_head("dense", EXACT)
    with pytest.raises(UserError, match="holds embeddings, and this head reads images"):
        dense.maps(open_volume("embedded/i0.ome.zarr"))
    with pytest.raises(UserError, match="affinities have directions"):
        load_head("affine", InferSettings(flips=True))
    assert load_head("dense", InferSettings(flips=True))[0].maps(image())["classes"].shape == (3, 48, 44)


def test_a_killed_prediction_goes_on_and_ends_with_the_same(tmp_path, monkeypatch):
    predictor, _ = load_head("dense", EXACT)
    images, settings = find_images(["set/images"], predictor), PredictSettings(maps=True, block=32)
    predict_images(images, str(tmp_path / "whole"), predictor, settings)
    write_block, written = predicting.PredictJob.write, []

    def dying(job, block, result):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(block.index)
        write_block(job, block, result)

    with monkeypatch.context() as patch:
        patch.setattr(predicting.PredictJob, "write", dying)
        with pytest.raises(UserError, match="KeyboardInterrupt"):
            predict_images(images, str(tmp_path / "out"), predictor, settings)
    predict_images(images, str(tmp_path / "out"), predictor, settings)
    for name in ("i0.ome.zarr", "i1.maps.ome.zarr"):
        a, b = (open_volume(tmp_path / folder / name) for folder in ("whole", "out"))
        np.testing.assert_array_equal(a.read(a.box), b.read(b.box))
    with pytest.raises(UserError, match="exists already"):
        predict_images(images, str(tmp_path / "out"), predictor, settings)


def test_the_verb_predicts_with_heads(tmp_path, capsys):
    ran("predict", "dense", "set/images/i0.tif", "--output", str(tmp_path / "c.ome.zarr"), "--maps")
    assert "classes (background, object, boundary) of 1 image" in capsys.readouterr().out
    found = open_volume(tmp_path / "c.ome.zarr")
    assert found.dtype == np.uint8
    assert found.meta.provenance["run"] == "dense"
    assert open_volume(tmp_path / "c.maps.ome.zarr").box.shape == (3, 48, 44)
    ran("predict", "stored", "embedded", "--output", str(tmp_path / "stored"))
    assert json.loads((tmp_path / "stored" / "predict.json").read_text())["images"][1]["name"] == "i1"
    refused(capsys, "--flat means nothing", "predict", "dense", "set/images", "--output", "x", "--flat")


def test_what_does_not_fit_is_refused_before_training(capsys):
    stored = ["train", "head_points", "data.sources.0.path=embedded", "task.channels=5", *STEPS, "--name", "no"]
    dense = ["train", "head", "data.sources.0.path=set", "data.crop=32", *STEPS, "--name", "no"]
    for message, words in (
        ("the net takes 16", [*stored, "task.channels=16"]),
        ("which must stay as they are", [*stored, "data.normaliser={kind: percentile}"]),
        ("would embed them again", [*stored, NET, "data.crop=32"]),
        (
            "holds embeddings of second",
            [*stored, "data.sources=[{path: embedded, names: [i0]}, {path: others, names: [i1]}]"],
        ),
        ("task.h_channels=7 is not that of run 'first', 3", [*dense, "--from", "first", "task.h_channels=7"]),
        ("task.beside=[2] is not that of run 'first'", [*dense, "--from", "first", "task.beside=[2]"]),
        ("there is none", [*stored, "task.net=null", "task.beside=[2]"]),
        ("task.net is none", [*dense, "--from", "first", "task.net=null", "task.freeze_base=false"]),
        ("none is given; name a contrast run with --from", dense),
        ("is in data and in validation", [*dense, "--from", "first", "validation.sources=[{path: set}]"]),
        ("cannot be learnt from points", [*stored, "task.target={kind: affinities}"]),
        (
            "needs one of the task 'align'",
            ["train", "align", "data.sources.0.path=set/images", "--from", "first", "--name", "no"],
        ),
    ):
        refused(capsys, message, *words)


def test_a_head_is_gone_on_with(tmp_path, place):
    words = ["data.sources.0.path=set", "data.crop=32", "trainer.checkpoint_every=2", *STEPS[1:]]
    recipe = load_recipe("head", [*words, "trainer.steps=4"])
    whole, _ = train(recipe, "whole", runs=tmp_path, parent=str(place / "runs" / "first"))
    cut = load_recipe("head", [*words, "trainer.steps=4", "trainer.max_seconds=1e-9"])
    run, outcome = train(cut, "cut", runs=tmp_path, parent=str(place / "runs" / "first"))
    assert outcome.step < 4
    train(recipe, "cut", runs=tmp_path, resume=True)
    same = [load_run(f"{r.path}:last").task.net.state_dict() for r in (whole, run)]
    for name, value in same[0].items():
        assert torch.equal(value, same[1][name])


def test_validation_by_labels_of_points_on_embeddings(tmp_path):
    ran("embed", "first", "other/images", str(tmp_path / "val"), "--preview", "none")
    labelled = f"{{kind: labelled, crop: 32, sources: [{{path: {tmp_path}/val, labels: other/labels}}]}}"
    words = ["data.sources.0.path=embedded", "task.channels=5", f"validation={labelled}", "trainer.validate_every=1"]
    ran("train", "head_points", *words, *STEPS, "--runs", str(tmp_path), "--name", "v")
    head = (tmp_path / "v" / "metrics.csv").read_text().splitlines()[0]
    assert "val/balanced" in head
