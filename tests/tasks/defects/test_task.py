"""What the detector is shown and learns: damage known to the pixel, by kind; the same seed the same loss."""

import numpy as np
import pytest
import torch
from scipy import ndimage as ndi

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.augment import Blackout, Debris, Fold, Rift, Wrinkle
from lamella.data.sample import Layer, Sample
from lamella.recipe.find import load_recipe
from lamella.recipe.train import prepare as prepared
from lamella.recipe.train import train
from lamella.tasks.defects.config import DefectsConfig
from lamella.tasks.defects.net import DefectNet
from lamella.tasks.defects.sample import prepare
from tests.tasks.defects.test_find import TINY, tissue, volume

SMALL = [
    "task.net={kind: unet, features: [4, 4], down: [2], fold: 2}",
    "data.crop=48",
    "trainer={steps: 3, batch_size: 4, learning_rate: 1.0e-2, log_every: 1, checkpoint_every: 3, validate_every: 3, panels_every: 3, device: cpu, threads: 1}",
]


def sections(value=0.5, batch=3, size=96, **layers):
    return Sample({"sections": Layer(torch.full((batch, 1, size, size), value), "image"), **layers})


def shown(sample, *damage, kinds=("crack", "fold", "cover"), seed=0):
    return prepare(sample, sample.space, ((), damage, ()), kinds, stream(seed))


def test_each_kind_of_damage_is_told_apart_and_lies_where_it_is_seen():
    for damage, kind in ((Rift(p=1), 0), (Wrinkle(p=1), 1), (Debris(p=1), 2), (Blackout(p=1), 2)):
        made = shown(sections(), damage)
        target = made.targets[:, kind]
        assert target.any()
        assert made.targets.sum() == target.sum()
        changed = (made.image[:, 0] - 0.5).abs() > 1e-6
        assert changed[target > 0].float().mean() > 0.95
        soft = torch.nn.functional.max_pool2d(target[:, None], 7, 1, 3)[:, 0]
        assert not (changed & (soft == 0)).any()


def test_what_is_done_later_moves_and_covers_what_was_done_before():
    both = shown(sections(batch=6), Blackout(p=1, most=1), Fold(p=1))
    assert (both.targets.sum(1) <= 1).all()
    alone = shown(sections(batch=6), Fold(p=1), Blackout(p=1, most=1))
    assert alone.targets[:, 2].sum() >= 6 * 40 * 40
    assert both.targets[:, 2].sum() < alone.targets[:, 2].sum()


def test_clean_sections_stay_clean_and_missing_or_doubtful_places_do_not_count():
    masks = torch.zeros(3, 1, 96, 96)
    masks[:, :, 10:20] = 1
    image = torch.full((3, 1, 96, 96), 0.5)
    image[..., :5] = 0
    sample = Sample({"sections": Layer(image, "image"), "masks": Layer(masks, "mask")})
    made = shown(sample, Rift(p=0))
    assert not made.targets.any()
    assert torch.equal(made.image, image)
    assert torch.equal(made.valid == 0, (masks > 0) | (image == 0))
    dirty = shown(sample, Blackout(p=1, side=(40, 48)))
    assert (dirty.valid[(dirty.targets.sum(1, keepdim=True) > 0) & (image > 0)] == 1).all()


def test_courses_keep_their_widths_and_run_in_all_directions():
    wide = shown(sections(batch=30, size=128), Rift(p=1, most=1, width=(20, 20), branches=0, length=(1.5, 1.5)))
    depth, angles = [], []
    for target in wide.targets[:, 0].numpy():
        depth.append(ndi.distance_transform_edt(np.pad(target, 1)).max())
        places = np.argwhere(target > 0)
        if len(places) > 50:
            axis = np.linalg.svd(places - places.mean(0), full_matrices=False)[2][0]
            angles.append(np.degrees(np.arctan2(*axis)) % 180)
    assert 7 < max(depth) <= 12
    assert np.histogram(angles, 4, (0, 180))[0].min() >= 2


def test_the_smoothing_is_the_kernel_of_the_seed_and_leaves_missing_data_out():
    net = DefectNet(DefectsConfig.load({"net": TINY}).net.build(1, 3), 0.25, ("crack", "fold", "cover"))
    assert net.kernel[0, 0].flatten().tolist() == pytest.approx(
        [1 / 48, 1 / 24, 1 / 48, 1 / 24, 3 / 4, 1 / 24, 1 / 48, 1 / 24, 1 / 48]
    )
    image = torch.full((1, 1, 8, 8), 0.5)
    image[..., 3:5] = 0
    torch.testing.assert_close(net.smoothed(image), image)
    assert net.context == tuple(n + 1 for n in net.net.context)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("sections") / "raw.zarr"
    volume(path, tissue((4, 80, 90)))
    return path


def recipe(raw, *changes):
    return load_recipe("defects", [f"data.sources.0.path={raw}", *SMALL, *changes])


def test_the_same_seed_learns_the_same_and_the_loss_falls(raw, tmp_path):
    held = ["validation={length: 4}"]
    first, _ = train(recipe(raw, *held), "first", runs=tmp_path)
    again, _ = train(recipe(raw, *held), "again", runs=tmp_path)
    texts = [(run.path / "metrics.csv").read_text().split(",samples")[0] for run in (first, again)]
    assert texts[0] == texts[1]
    rows = [line.split(",") for line in (first.path / "metrics.csv").read_text().splitlines()]
    assert {"val/crack_dice", "val/fold_dice", "val/cover_dice", "val/false"} <= set(rows[0])
    assert (first.path / "panels" / "step_0000003" / "defects.png").exists()


def test_what_cannot_be_learnt_is_refused(raw):
    with pytest.raises(UserError, match=r"data\.sections=1"):
        prepared(recipe(raw, "data.sections=2"))
    with pytest.raises(UserError, match="'rotate' is no defect"):
        recipe(raw, "task.damage=[{kind: rotate}]")
    with pytest.raises(UserError, match=r"crack.* no damage shows"):
        recipe(raw, "task.damage=[{kind: fold}, {kind: debris}]")
    with pytest.raises(UserError, match="no middle pixel"):
        recipe(raw, "task.masks.max_pool=4")
