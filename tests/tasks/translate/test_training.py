"""Translation is learnt in 2D, 2.5D and 3D, from recipe to run, and what cannot be learnt is refused."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.frames import IMAGE, TARGET, WEIGHT, FramesData
from lamella.data.sample import Layer, Sample, collate
from lamella.io import open_volume
from lamella.recipe.find import load_recipe, parse_recipe
from lamella.recipe.train import train
from lamella.recipe.translator import load_translator
from lamella.recipe.tune.finder import find_rate
from lamella.recipe.tune.settings import RateSettings
from lamella.tasks.translate.config import TranslateConfig
from lamella.tasks.translate.loss import NAMED, LossConfig
from lamella.tasks.translate.panels import draw_panels
from lamella.tasks.translate.sample import TranslateSample, arranged, prepare
from lamella.train.checkpoints import read_checkpoint, weights
from lamella.train.fit import seeded
from tests.data.experiments import frame, make_frames

FLAT = {"kind": "unet", "features": [8, 8], "down": [2], "edges": "replicate"}
WINDOW = {"kind": "stack_unet", "features": [8, 8], "down": [2]}
DEEP = {"kind": "unet", "ndim": 3, "features": [6, 6], "down": [[1, 2, 2]]}
KINDS = {
    "2D": ({"net": FLAT}, {}),
    "2D of slices": ({"net": FLAT, "depth": 3}, {"depth": 3}),
    "2.5D to slice": ({"net": WINDOW, "depth": 3}, {"depth": 3}),
    "2.5D to stack": ({"net": {**WINDOW, "output": "stack"}, "depth": 3}, {"depth": 3, "whole_window": True}),
    "3D": ({"net": DEEP}, {"ndim": 3, "crop": [3, 24, 24]}),
    "segmentation": (
        {"net": FLAT, "learn": "segmentation", "loss": "bce-dice", "final": "sigmoid"},
        {"target": "binary"},
    ),
}


def frames_of(folder, kind):
    make_frames(folder, slices=5, positions=2)
    if kind == "segmentation":
        for p in range(2):
            for z in range(5):
                path = folder / f"im_c001_z{z:03d}_t000_p{p:03d}.tif"
                iio.imwrite(path, np.float32(frame(folder, 0, z, p) > 0))
    return folder


def recipe_of(folder, task=None, data=None, **trainer):
    values = {
        "task": {"kind": "translate", "net": FLAT, "loss": "mse", "specimen": [], **(task or {})},
        "data": {"sources": [{"path": str(folder)}], "inputs": [0], "targets": [1], "crop": 24, **(data or {})},
        "trainer": {"steps": 6, "batch_size": 2, "device": "cpu", "graph": False, "panels_every": 0, **trainer},
    }
    return parse_recipe(values, "test")


def final(run):
    return weights(read_checkpoint(run.checkpoint("last")))


def shown(translator, volume):
    """The input channels of a position as the net sees them."""
    view = translator.view(volume)
    (time, *_), stop = view.box.start, view.box.stop
    boxes = [Box((time, c, *view.box.start[2:]), (time + 1, c + 1, *stop[2:])) for c in translator.channels(volume)]
    return np.concatenate([view.read(box)[0] for box in boxes])


def scores(learner, sample):
    learner.net.eval()
    with torch.no_grad():
        found = {name: float(value) for name, value in learner.validate(sample).items()}
    learner.net.train()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_a_sample_by_heart(tmp_path, kind):
    task, data = KINDS[kind]
    recipe = recipe_of(frames_of(tmp_path / "f", kind), task, data)
    samples = recipe.data.build(0)
    learner = seeded(recipe.task.build, 0)
    learner.check(samples[0])
    sample = learner.sample(collate([samples[k] for k in range(2)]), stream(0), training=False)
    before = scores(learner, sample)
    optimiser = torch.optim.Adam(learner.net.parameters(), 2e-2)
    for step in range(40):
        parts = learner.loss(sample, step)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
    after = scores(learner, sample)
    assert after["total"] < 0.5 * before["total"]
    assert after["dice" if kind == "segmentation" else "pearson"] > 0.7


@pytest.mark.parametrize("kind", ["2D of slices", "3D"])
def test_augmentation_moves_input_and_target_together(tmp_path, kind):
    task, data = KINDS[kind]
    changes = {**data, "crop": [5, 40, 40] if kind == "3D" else 40, "targets": [1]}
    recipe = recipe_of(make_frames(tmp_path / "f", slices=5, size=(60, 60)), task, changes)
    moves = [
        {"kind": "rotate", "p": 1.0},
        {"kind": "scale", "p": 1.0, "factor": {"kind": "uniform", "low": 0.8, "high": 1.25}},
        {"kind": "elastic", "p": 1.0, "std": [0.0, 1.0, 1.0] if kind == "3D" else [1.0], "spacing": [12.0]},
        {"kind": "mirror"},
        {"kind": "transpose"},
    ]
    config = TranslateConfig.load({**recipe.task.to_dict(), "specimen": moves})
    samples = recipe.data.build(0)
    batch = collate([samples[k] for k in range(3)])
    moved = prepare(arranged(batch, config.specimen, tuple(batch.space), stream(1)), (), 1, stream(2))
    middle = moved.image.shape[1] // 2
    for b in range(3):
        counts = moved.weight[b, 0] > 0
        shown, target = moved.image[b, middle][counts].numpy(), moved.target[b, 0][counts].numpy()
        assert counts.float().mean() > 0.4
        assert np.corrcoef(shown, target)[0, 1] > 0.99
        assert not torch.equal(moved.target[b], batch[TARGET].tensor[b])


def test_imaging_changes_the_input_alone_and_all_slices_of_a_window_alike():
    image = torch.rand(2, 6, 16, 16)
    layers = {IMAGE: Layer(image, "image"), TARGET: Layer(image[:, :1], "image"), WEIGHT: Layer(image[:, :1], "weight")}
    imaging = TranslateConfig.load({"imaging": [{"kind": "brightness", "p": 1.0}]}).imaging
    batch = arranged(Sample(layers), (), (16, 16), stream(0))
    made = prepare(batch, imaging, 3, stream(0))
    assert torch.equal(made.target, image[:, :1])
    for b in range(2):
        for c in range(2):
            before, after = image[b, 3 * c : 3 * c + 3].flatten(), made.image[b, 3 * c : 3 * c + 3].flatten()
            slope, offset = np.polyfit(before.numpy(), after.numpy(), 1)
            torch.testing.assert_close(after, slope * before + offset, rtol=1e-3, atol=1e-3)
            assert abs(slope - 1) > 1e-3


def test_a_run_holds_all_that_predicting_needs(tmp_path):
    folder = make_frames(tmp_path / "f", positions=4)
    recipe = recipe_of(folder, data={"split": {}}, steps=40, learning_rate=1e-2, batch_size=4)
    run, _ = train(recipe, "first", runs=tmp_path / "runs")
    written = yaml.safe_load((run.path / "recipe.yaml").read_text())["data"]
    assert written["split"]["parts"] == yaml.safe_load((run.path / "split.json").read_text())["parts"]
    assert written["preprocessing"]["statistics"]["groups"]
    unstained = make_frames(tmp_path / "new", positions=4, only=())
    translator, facts = load_translator(run.path, device="cpu")
    assert facts["run"] == "first"
    assert translator.targets == ("c001",)
    volume = open_volume(str(unstained), dataset="p001")
    found = translator.op(shown(translator, volume))
    stained = np.stack([frame(folder, 1, z, 1) for z in range(3)])
    restored = translator.restore[0](found[0])
    assert restored.shape == stained.shape
    assert np.abs(restored - stained).mean() < 0.5 * stained.std()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_net_becomes_a_translator(tmp_path, kind):
    task, data = KINDS[kind]
    folder = frames_of(tmp_path / "f", kind)
    run, _ = train(recipe_of(folder, task, data, steps=1), "a", runs=tmp_path)
    translator, _ = load_translator(run.path, device="cpu")
    volume = open_volume(str(folder), dataset="p000")
    found = translator.op(shown(translator, volume))
    assert found.shape == (1, 5, 40, 48)
    assert np.isfinite(found).all()
    if kind == "segmentation":
        assert 0 <= found.min() <= found.max() <= 1
        assert translator.restore[0](found[0]) is not None


def test_volumes_with_too_few_slices_are_refused_by_the_translator(tmp_path):
    folder = make_frames(tmp_path / "f", slices=5)
    run, _ = train(recipe_of(folder, {"depth": 5}, {"depth": 5}, steps=1), "deep", runs=tmp_path)
    translator, _ = load_translator(run.path, device="cpu")
    thin = open_volume(str(make_frames(tmp_path / "thin", slices=3)), dataset="p000")
    with pytest.raises(UserError, match="3 slices, fewer than the 5"):
        translator.channels(thin)


def test_a_resumed_run_ends_as_one_that_was_never_stopped(tmp_path):
    folder = make_frames(tmp_path / "f")
    task = {"specimen": [{"kind": "rotate", "p": 1.0}], "imaging": [{"kind": "noise", "p": 1.0}]}
    recipe = recipe_of(folder, task, checkpoint_every=3, log_every=3, average={"decay": 0.9})
    whole, _ = train(recipe, "whole", runs=tmp_path)
    stopped, outcome = train(recipe, "stopped", runs=tmp_path, judge=lambda step, row: "enough" if step == 3 else None)
    assert outcome.step == 3
    resumed, outcome = train(recipe, "stopped", runs=tmp_path, resume=True)
    assert outcome.step == 6
    assert resumed.recipe() == stopped.recipe()
    first, second = final(whole), final(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_data_are_not_gone_on_with(tmp_path):
    folder = make_frames(tmp_path / "f")
    recipe = recipe_of(folder, checkpoint_every=3)
    train(recipe, "a", runs=tmp_path)
    path = folder / "im_c001_z000_t000_p000.tif"
    iio.imwrite(path, frame(folder, 1, 0, 0) * 3)
    with pytest.raises(UserError, match=r"cannot go on with another recipe: data\.(measured|preprocessing)"):
        train(recipe, "a", runs=tmp_path, resume=True)


def test_fine_tuning_starts_from_the_weights_of_a_run(tmp_path):
    folder = make_frames(tmp_path / "f", targets=2)
    first, _ = train(recipe_of(folder), "first", runs=tmp_path)
    tuned, _ = train(recipe_of(folder, steps=1, learning_rate=1e-9), "tuned", runs=tmp_path, parent="first")
    before, after = final(first), final(tuned)
    for name in before:
        if name.endswith("weight"):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    wider, _ = train(recipe_of(folder, data={"targets": [1, 2]}, steps=1), "wider", runs=tmp_path, parent="first")
    assert wider.provenance()["parent"]["other_shape"] == ["net.head.conv.weight", "net.head.conv.bias"]


def test_training_stops_at_the_end_of_a_cycle_and_shows_the_rate_and_panels(tmp_path):
    recipe = recipe_of(
        make_frames(tmp_path / "f", positions=4),
        data={"split": {}},
        steps=40,
        learning_rate=1e-2,
        log_every=1,
        validate_every=1,
        panels_every=8,
        schedule={"kind": "cyclical", "step_size": 4, "base": 0.1, "gamma": 0.5},
        early_stopping={"metric": "val/pearson", "mode": "min", "patience": 1},
    ).model_copy()
    recipe = parse_recipe({**recipe.to_dict(), "validation": {}}, "test")
    run, outcome = train(recipe, "cycles", runs=tmp_path)
    assert outcome.reason.startswith("stopped early")
    assert outcome.step % 8 == 0
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    rates = [event.value for event in events.Scalars("learning_rate")]
    expected = [
        1e-2 * (0.1 + 0.9 * 0.5 ** (1 + step // 8) * (1 - abs(step % 8 - 4) / 4)) for step in range(outcome.step)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert events.Tags()["images"] == ["panels/translation.png"]


def test_panels_show_input_target_prediction_and_difference():
    target = torch.rand(2, 2, 20, 20)
    sample = TranslateSample(torch.rand(2, 3, 20, 20), target, torch.ones(2, 2, 20, 20))
    picture = iio.imread(draw_panels(sample, target.clone(), 2)["translation.png"], extension=".png")
    assert picture.shape[0] == 2 * 20 + 6
    assert picture.shape[1] == 7 * 20 + 6 * 6
    columns = [picture[:20, k * 26 : k * 26 + 20].astype(int) for k in range(7)]
    np.testing.assert_array_equal(columns[1], columns[2])
    assert np.ptp(columns[3], axis=(0, 1)).max() == 0  # no difference anywhere


def test_the_range_finder_fills_a_recipe_of_a_cycle_with_base_and_maximum(tmp_path):
    values = recipe_of(make_frames(tmp_path / "f"), schedule={"kind": "cyclical", "step_size": 5}).to_dict()
    settings = RateSettings(finder=True, low=1e-4, high=1.0, ramp_steps=30, smooth=0.05)
    tuning, found = find_rate(values, tmp_path / "out", settings)
    best = load_recipe(tuning.path / "best.yaml").trainer
    base, maximum = (float(figure.value) for figure in found.headlines[:2])
    assert best.learning_rate == pytest.approx(maximum, rel=0.01)
    assert best.learning_rate * best.schedule.base == pytest.approx(base, rel=0.01)


@pytest.mark.parametrize("name", ["mae", "mse", "dssim-l1", "ms-ssim-l1", "half"])
def test_losses_vanish_for_a_perfect_prediction_and_for_nothing_else(name):
    target = torch.rand(2, 1, 180, 180, generator=torch.Generator().manual_seed(0))
    ones, loss = torch.ones_like(target), LossConfig.model_validate(name)
    assert abs(float(loss(target, target, target, ones)["total"])) < 1e-5
    off = float(loss(target + 0.1, target + 0.1, target, ones)["total"])
    assert off > 0.005
    expected = {"mae": 0.1, "mse": 0.01}
    if name in expected:
        assert off == pytest.approx(expected[name], rel=1e-4)


def test_mixes_are_what_the_page_says():
    weights = {name: {term.kind: term.weight for term in terms} for name, terms in NAMED.items()}
    assert weights["dssim-l1"] == {"dssim": 0.8, "mae": 0.2}
    assert weights["ms-ssim-l1"] == {"ms_dssim": 0.84, "mae": 0.16}
    assert weights["half"] == {"mae": 0.5, "ms_dssim": 0.5}


def test_bce_and_dice_are_those_of_the_probability():
    target = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]])
    mask = torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])
    raw = torch.logit(torch.tensor([[[[0.8, 0.4, 0.6, 0.9]]]]))
    parts = LossConfig.model_validate("bce-dice")(raw, torch.sigmoid(raw), target, mask)
    assert float(parts["loss_bce"]) == pytest.approx(-np.log([0.8, 0.6, 0.6]).mean(), abs=1e-5)
    assert float(parts["loss_dice"]) == pytest.approx(1 - (2 * 1.4 + 1) / (2 + 1.8 + 1), abs=1e-5)


@pytest.mark.parametrize(
    ("task", "data", "told"),
    [
        ({"loss": "l1"}, {}, "'l1' is not known; choose one of mae"),
        ({"loss": {"terms": [{"kind": "mae"}, {"kind": "dice"}]}}, {}, "mix those of segmentations"),
        ({"loss": {"terms": [{"kind": "mae"}, {"kind": "mae"}]}}, {}, "give each kind once"),
        ({"loss": "bce"}, {}, "does not suit learn 'regression'"),
        ({"learn": "segmentation", "loss": "mae"}, {}, "does not suit learn 'segmentation'"),
        ({"learn": "segmentation", "loss": "dice", "final": "relu"}, {}, "does not suit a segmentation"),
        ({}, {"depth": 2}, "depth 2 is even"),
        ({"augmentations": []}, {}, "unknown key 'task.augmentations'"),
        ({"net": DEEP}, {"depth": 3}, "depth 3 is for 2D and 2.5D nets"),
    ],
)
def test_recipes_that_cannot_work_are_refused(tmp_path, task, data, told):
    with pytest.raises(UserError, match=told):
        recipe_of(tmp_path, task, data)


@pytest.mark.parametrize(
    ("task", "data", "told"),
    [
        ({"net": DEEP}, {}, "data have 2 spatial axes, the net 3"),
        ({"channels": 2}, {}, "image has 1 channels .*the net has 2"),
        ({"net": {**WINDOW, "output": "stack"}}, {"depth": 3}, "target has 1 channels .*the net has 3.*whole_window"),
        ({"loss": "ms-ssim-l1"}, {}, "the loss needs 176 pixels"),
        ({"trim": 0.05}, {}, r"leaves \(0, 0\).* set data.crop"),
    ],
)
def test_data_that_do_not_suit_the_net_are_refused(tmp_path, task, data, told):
    recipe = recipe_of(make_frames(tmp_path / "f"), task, data)
    with pytest.raises(UserError, match=told):
        recipe.task.build().check(recipe.data.build(0)[0])


@pytest.mark.parametrize("name", ["translate", "translate25d", "translate3d"])
def test_shipped_recipes_are_of_one_piece(tmp_path, name):
    folder = make_frames(tmp_path / "f", positions=4, slices=9, size=(40, 40))
    recipe = load_recipe(name, [f"data.sources.0.path={folder}", "data.inputs=[0]", "data.targets=[1]"])
    assert isinstance(recipe.data, FramesData)
    recipe.task.build().check(recipe.data.build(0)[0])
