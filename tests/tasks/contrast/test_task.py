"""The contrast task learns to tell places apart, in 2D and 3D, and says what it cannot learn from and when it has collapsed."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.images import IMAGE, VALID
from lamella.data.sample import Layer, Sample, collate
from lamella.tasks.contrast import scores
from lamella.tasks.contrast.config import ContrastConfig
from lamella.train.fit import seeded

FLAT = {"kind": "unet", "features": [6, 8], "down": [2], "edges": "replicate"}
DEEP = {"kind": "unet", "ndim": 3, "features": [4, 6], "down": [[1, 2, 2]], "kernel": [1, 3, 3]}
VALIDLY = {"kind": "unet", "features": [4, 6], "down": [2], "convs": 1, "padding": "valid", "norm": "none"}
ANISOTROPIC = [
    {"kind": "rotate", "p": 1.0},
    {"kind": "elastic", "p": 1.0, "std": [0, 1, 1], "spacing": [2, 12, 12]},
    {"kind": "mirror"},
    {"kind": "transpose"},
]


def batch(space, channels=1, size=2, seed=0):
    coarse = torch.rand(size, channels, *(n // 4 for n in space), generator=torch.Generator().manual_seed(seed))
    mode = "bilinear" if len(space) == 2 else "trilinear"
    image = torch.nn.functional.interpolate(coarse, space, mode=mode, align_corners=False)
    return Sample({IMAGE: Layer(image, "image"), VALID: Layer(torch.ones(size, 1, *space), "weight")})


def task(net=FLAT, **changes):
    config = ContrastConfig.load({"net": net, "h_channels": 6, "point_density": 0.05, **changes})
    return seeded(config.build, 0)


@pytest.mark.parametrize(
    ("net", "space", "changes"),
    [
        (FLAT, (40, 40), {}),
        (FLAT, (40, 40), {"sampling": "nearest", "projection": [12, 5]}),
        (FLAT, (40, 40), {"loss": "vicreg"}),
        (FLAT, (40, 40), {"negatives": "crop"}),
        (VALIDLY, (48, 48), {"projection": []}),
        (DEEP, (8, 32, 32), {"specimen": ANISOTROPIC}),
    ],
    ids=["2D", "2D nearest", "2D without negatives", "2D of each crop", "2D valid", "3D"],
)
def test_it_learns_to_tell_places_apart(net, space, changes):
    learner = task(net, **changes)
    learner.check(batch(space))
    held_out = learner.sample(batch(space, seed=1), stream(1), training=False)
    before = learner.validate(held_out)
    optimiser = torch.optim.Adam(learner.net.parameters(), 5e-3)
    for step in range(25):
        parts = learner.loss(learner.sample(batch(space, seed=step), stream(step), training=True), step)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
    after = learner.validate(held_out)
    assert after["total"] < before["total"] - 0.1
    assert after["recalled"] >= before["recalled"]
    assert 1 <= after["dimensions"] <= 6
    assert 0 < after["spread"] <= 1


def test_samples_of_a_batch_are_told_apart_from_each_other_too():
    learner = task()
    both = learner.sample(collate([batch((40, 40), size=1, seed=k) for k in range(2)]), stream(0), training=True)
    count = learner.loss(both, 0)["points"]
    assert count == both.kept.sum()
    assert (both.kept.sum(1) > 0).all()
    alone = both.kept.clone()
    alone[1] = False
    single = learner.loss(type(both)(both.first, both.second, alone), 0)["total"]
    assert learner.loss(both, 0)["total"] > single + 0.3  # twice as many others: about ln 2 more


def test_negatives_of_the_crop_leave_other_crops_out():
    learner = task(negatives="crop")
    both = learner.sample(batch((40, 40)), stream(0), training=True)
    totals, counts = [], both.kept.sum(1)
    for k in range(2):
        alone = torch.zeros_like(both.kept)
        alone[k] = both.kept[k]
        totals.append(learner.loss(type(both)(both.first, both.second, alone), 0)["total"])
    expected = (torch.stack(totals) * counts).sum() / counts.sum()
    torch.testing.assert_close(learner.loss(both, 0)["total"], expected)


def test_no_common_point_is_no_reason_to_stop():
    learner = task()
    sample = learner.sample(batch((40, 40)), stream(0), training=True)
    parts = learner.loss(type(sample)(sample.first, sample.second, torch.zeros_like(sample.kept)), 0)
    parts["total"].backward()
    assert all(torch.isfinite(value) for value in parts.values())


def test_views_differ_in_validation_too_and_are_the_same_each_time():
    learner = task()
    samples = [learner.sample(batch((40, 40)), stream(7), training=False) for _ in range(2)]
    assert torch.equal(samples[0].first.image, samples[1].first.image)
    assert not torch.equal(samples[0].first.image, samples[0].second.image)


@pytest.mark.parametrize(("net", "space"), [(FLAT, (40, 40)), (VALIDLY, (48, 48)), (DEEP, (8, 32, 32))])
def test_panels_show_views_and_embeddings(net, space):
    learner = task(net)
    with torch.no_grad():
        drawn = learner.panels(learner.sample(batch(space), stream(0), training=False))
    picture = iio.imread(drawn["views.png"])
    assert picture.shape[2] == 3
    assert picture.std() > 10


@pytest.mark.parametrize(
    ("changes", "sample", "message"),
    [
        ({}, batch((40, 40), channels=2), "task.channels=2"),
        ({}, batch((8, 40, 40)), "3 spatial axes, the net 2"),
        ({"point_density": 0.001}, batch((40, 40)), "raise it to 0.01 or more"),
        ({}, batch((40, 44)), "cannot be transposed"),
        ({"net": {**VALIDLY, "down": [2, 2, 2], "features": 4}}, batch((40, 40)), "set data.crop to"),
        ({}, batch((40, 40)).without(VALID), "lack valid"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(changes, sample, message):
    with pytest.raises(UserError, match=message):
        task(**{"net": FLAT, **changes}).check(sample)


def test_a_projection_without_width_is_refused():
    with pytest.raises(UserError, match="widths of at least 1"):
        ContrastConfig.load({"projection": [8, 0]})


def test_collapse_is_seen_once_a_net_had_time():
    learner = task()
    assert learner.watch({"step": 10.0, "spread": 0.0}) is None
    assert learner.watch({"step": 1000.0, "spread": 0.7}) is None
    assert "collapsed" in learner.watch({"step": 1000.0, "spread": 0.01})


def test_scores_by_hand():
    same = torch.ones(10, 4)
    assert scores.spread(same).item() == pytest.approx(0, abs=1e-3)
    assert scores.spread(torch.cat([same, -same])).item() == pytest.approx(1)
    corners = torch.eye(4)
    assert scores.dimensions(torch.cat([corners, -corners])).item() == pytest.approx(4)
    assert scores.dimensions(torch.linspace(0, 1, 9)[:, None] * same[:1]).item() == pytest.approx(1)
    assert scores.recalled(corners, corners.roll(1, 0)) == 0
    assert scores.recalled(corners, corners + 0.1) == 1
    assert scores.alike(corners, corners) == 1
    assert all(np.isfinite(f(torch.zeros(0, 4)).item()) for f in (scores.spread, scores.dimensions))
