"""Heads learn affinities and classes, from labels and from points, in 2D and 3D, and say what they cannot learn from."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.labelled import IMAGE, LABELS, VALID
from lamella.data.sample import Layer, Sample, collate
from lamella.ops.affinities import affinities
from lamella.tasks.head import loss, scores
from lamella.tasks.head.config import HeadConfig
from lamella.tasks.head.sample import MapSample, PointSample
from lamella.train.fit import seeded

FLAT = {"kind": "unet", "features": [6, 8], "down": [2]}
DEEP = {"kind": "unet", "ndim": 3, "features": [4, 6], "down": [[1, 2, 2]], "kernel": [1, 3, 3]}
VALIDLY = {"kind": "unet", "features": [6, 8], "down": [2], "convs": 1, "padding": "valid", "norm": "none"}
AFFINE = {"kind": "affinities"}
BOUNDARY = {"kind": "classes", "classes": {"kind": "boundary"}}
TURNED = [{"kind": "rotate", "p": 1.0}, {"kind": "mirror"}]


def squares(space, seed):
    """Labels of squares, and an image that is bright in them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(space, np.int64)
    for k, y in enumerate(range(2, space[-2] - 8, 12)):
        x = int(rng.integers(1, space[-1] - 10))
        labels[..., y : y + 9, x : x + 9] = k + 1
    return labels, (labels > 0) + 0.1 * rng.normal(size=space)


def dense(space, seed=0, size=2):
    made = []
    for k in range(size):
        labels, image = squares(space, 10 * seed + k)
        layers = {
            IMAGE: Layer(torch.tensor(image, dtype=torch.float32)[None, None], "image"),
            LABELS: Layer(torch.tensor(labels)[None, None], "label"),
            VALID: Layer(torch.ones(1, 1, *space), "weight"),
        }
        made.append(Sample(layers))
    return collate(made)


def sparse(space, seed=0, size=2, num=20):
    made = []
    for k in range(size):
        labels, image = squares(space, 10 * seed + k)
        rng = np.random.default_rng(seed)
        places = np.stack([rng.integers(0, n, num) for n in space], 1)
        classes = labels[tuple(places.T)] > 0
        layers = {IMAGE: Layer(torch.tensor(image, dtype=torch.float32)[None, None], "image")}
        for c in range(2):
            layers[f"class_{c}"] = Layer(torch.tensor(places[classes == c], dtype=torch.float32)[None], "points")
        made.append(Sample(layers))
    return collate(made)


def task(**values):
    return seeded(HeadConfig.load({"kind": "head", **values}).build, 0)


def learn(learner, batch, steps=40, rate=2e-2):
    optimiser = torch.optim.Adam(
        [p for n, p in learner.net.named_parameters() if not learner.net.frozen or "head" in n], rate
    )
    learner.net.train()
    for step in range(steps):
        parts = learner.loss(learner.sample(batch(step), stream(step), training=True), step)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
    learner.net.eval()
    with torch.no_grad():
        return learner.validate(learner.sample(batch(99), stream(0), training=False))


@pytest.mark.parametrize(
    ("values", "space", "name", "least"),
    [
        ({"net": FLAT, "h_channels": 6, "target": AFFINE}, (32, 32), "agreement", 0.85),
        ({"net": FLAT, "h_channels": 6, "target": {**AFFINE, "loss": "bce"}}, (32, 32), "agreement", 0.85),
        ({"net": VALIDLY, "h_channels": 6, "target": AFFINE}, (32, 32), "agreement", 0.8),
        ({"net": DEEP, "h_channels": 6, "target": AFFINE}, (4, 32, 32), "agreement", 0.85),
        (
            {"net": FLAT, "h_channels": 6, "target": BOUNDARY, "specimen": TURNED, "trim": 0.75},
            (32, 32),
            "balanced",
            0.7,
        ),
        ({"target": {"kind": "classes"}}, (32, 32), "balanced", 0.95),
    ],
    ids=["affinities", "bce", "valid", "3D", "boundary", "pixels"],
)
def test_it_learns_from_labelled_images(values, space, name, least):
    learner = task(**values)
    learner.check(dense(space, size=1))
    found = learn(learner, lambda seed: dense(space, seed))
    assert found[name] > least


@pytest.mark.parametrize(
    ("values", "space"),
    [
        ({"net": FLAT, "h_channels": 6}, (32, 32)),
        ({"net": VALIDLY, "h_channels": 6, "sampling": "nearest"}, (32, 32)),
        ({"net": DEEP, "h_channels": 6, "specimen": [{"kind": "mirror"}]}, (4, 32, 32)),
        ({"head": {"kind": "dense"}}, (32, 32)),
        ({"ndim": 3}, (4, 32, 32)),
    ],
    ids=["2D", "valid", "3D", "dense head", "3D pixels"],
)
def test_it_learns_from_points(values, space):
    learner = task(**{"head": {"kind": "sparse"}, **values})
    learner.check(sparse(space, size=1))
    found = learn(learner, lambda seed: sparse(space, seed))
    assert found["balanced"] > 0.9
    assert 0 < found["points"] <= 40


def test_targets_are_the_affinities_of_the_moved_labels():
    offsets = [[-1, 0], [0, -3]]
    learner = task(target={"kind": "affinities", "offsets": offsets})
    batch = dense((32, 32))
    partly = torch.ones(2, 1, 32, 32)
    partly[..., 10:14, :] = 0
    batch = batch.with_tensors(**{VALID: partly})
    sample = learner.sample(batch, stream(0), training=False)
    found, valid = affinities(batch[LABELS].tensor[1, 0].numpy(), offsets)
    known = partly[1, 0].numpy() > 0
    both = known & np.roll(known, 1, 0)  # of the first offset
    np.testing.assert_array_equal(sample.target[1], found)
    np.testing.assert_array_equal(sample.valid[1, 0] > 0, valid[0] & both)


def test_points_of_turned_crops_are_where_the_image_went():
    learner = task(head={"kind": "sparse"}, specimen=TURNED, trim=0.7)
    batch = sparse((32, 32), num=200)
    sample = learner.sample(batch, stream(3), training=True)
    for k in range(2):
        kept = sample.kept[k]
        y, x = sample.points[k][kept].round().long().T
        bright = sample.image[k, 0, y, x] > 0.5
        assert (bright == (sample.classes[kept] == 1)).float().mean() > 0.9
        assert 60 < kept.sum() < 160  # the middle 0.7 of each side is kept


@pytest.mark.parametrize("space", [(32, 32), (4, 32, 32)], ids=["2D", "3D"])
def test_a_crop_may_lack_points_of_a_class(space):
    bent = [
        {"kind": "elastic", "p": 1.0, "std": [0, 1, 1][-len(space) :], "spacing": [2, 12, 12][-len(space) :]},
        *TURNED,
    ]
    learner = task(head={"kind": "sparse"}, ndim=len(space), specimen=bent)
    batch = sparse(space)
    empty = batch.with_tensors(class_1=batch["class_1"].tensor[:, :0])
    sample = learner.sample(empty, stream(0), training=True)
    assert (sample.classes == 0).all()
    assert learner.loss(sample, 0)["total"] > 0


def test_a_frozen_base_stays_as_it_is():
    learner = task(net=FLAT, h_channels=6, freeze_base=True)
    before = {k: v.clone() for k, v in learner.net.base.state_dict().items()}
    (phase,) = learner.phases(10)
    assert dict(phase.train) == {"head": 1.0}
    learn(learner, lambda seed: dense((32, 32), seed), steps=3)
    for name, value in learner.net.base.state_dict().items():  # norms' statistics among them
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    free = task(net=FLAT, h_channels=6)
    learn(free, lambda seed: dense((32, 32), seed), steps=3)
    assert (free.net.base.state_dict()["down.0.layers.1.running_mean"] != 0).any()


def test_losses_by_hand():
    raw, classes = torch.tensor([[0.0, 2.0], [1.0, 0.0], [3.0, 0.0]]), torch.tensor([1, 0, 0])
    each = [F.softplus(torch.tensor(-2.0)), F.softplus(torch.tensor(-1.0)), F.softplus(torch.tensor(-3.0))]
    torch.testing.assert_close(loss.of_classes(raw, classes, balanced=False), sum(each) / 3)
    torch.testing.assert_close(loss.of_classes(raw, classes, balanced=True), (each[0] + (each[1] + each[2]) / 2) / 2)
    weights = torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(loss.of_classes(raw, classes, balanced=False, weights=weights), (each[0] + each[1]) / 2)
    assert loss.of_classes(raw[:0], classes[:0], balanced=True) == 0
    logits, target, valid = (
        torch.tensor([[[[0.0, 9.0]]]]),
        torch.tensor([[[[1.0, 0.0]]]]),
        torch.tensor([[[[1.0, 0.0]]]]),
    )
    torch.testing.assert_close(loss.of_affinities(logits, target, valid, "mse"), torch.tensor(0.25))
    torch.testing.assert_close(loss.of_affinities(logits, target, valid, "bce"), torch.tensor(2.0).log())


def test_scores_by_hand():
    raw, classes = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), torch.tensor([1, 0, 0, 0])
    assert scores.accuracy(raw, classes) == 0.5
    torch.testing.assert_close(scores.accuracy(raw, classes, balanced=True), torch.tensor((1 + 1 / 3) / 2))
    logits = torch.tensor([[[[1.0, -1.0, 1.0, 5.0]]]])
    target, valid = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])
    assert scores.agreement(logits, target, valid) == 0.25
    assert scores.agreement(logits, torch.ones_like(target), valid) == pytest.approx(2 / 3)


def test_pictures_of_both_kinds_of_samples():
    for learner, batch, name in (
        (task(net=FLAT, h_channels=6, target=BOUNDARY), dense((32, 32)), "maps.png"),
        (task(net=DEEP, h_channels=6, target=AFFINE), dense((4, 32, 32)), "maps.png"),
        (task(head={"kind": "sparse"}), sparse((32, 32)), "points.png"),
    ):
        drawn = learner.panels(learner.sample(batch, stream(0), training=False))
        assert list(drawn) == [name]
        assert iio.imread(drawn[name]).shape[0] > 60


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": {"kind": "affinities", "offsets": [[-1, 0, 0]]}}, "must have 2 entries"),
        ({"target": {"kind": "affinities", "offsets": [[0, 0]]}}, "compares each voxel with itself"),
        ({"net": None, "freeze_base": True}, "there is none"),
        ({"net": FLAT, "ndim": 3}, "ndim 3 is not that of the net, 2"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        HeadConfig.load(values)


def test_data_that_a_head_cannot_learn_from_are_named():
    with pytest.raises(UserError, match="cannot be learnt from points; use data of kind 'labelled'"):
        task(target=AFFINE).check(sparse((16, 16), size=1))
    with pytest.raises(UserError, match=r"images have 1 channels .* the net takes 4"):
        task(channels=4).check(dense((16, 16), size=1))
    with pytest.raises(UserError, match="2 spatial axes, the net 3"):
        task(ndim=3).check(dense((16, 16), size=1))
    more = sparse((16, 16), size=1).with_layers(class_3=Layer(torch.zeros(1, 1, 2), "points"))
    with pytest.raises(UserError, match=r"classes up to 3, task\.target\.classes knows 2"):
        task().check(more)
    listed = Sample({IMAGE: Layer(torch.zeros(1, 1, 5, 1), "image"), "class_0": Layer(torch.zeros(1, 1, 2), "points")})
    with pytest.raises(UserError, match="need what surrounds the points"):
        task(net=FLAT).check(listed)
    with pytest.raises(UserError, match=r"set data\.crop to"):
        task(net=VALIDLY).check(dense((8, 8), size=1))
    assert isinstance(task().sample(dense((16, 16)), stream(0), False), MapSample)
    assert isinstance(task().sample(sparse((16, 16)), stream(0), False), PointSample)
