"""Laws of the segment task: what a sample is, what counts in the loss, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.augment.trim import kept_size
from lamella.data.sample import Layer, Sample
from lamella.ops import map_losses as loss
from lamella.ops import targets
from lamella.tasks.segment.config import SegmentConfig
from lamella.tasks.segment.crowd import crowd, draw

TINY = {
    2: {"kind": "unet", "features": [8, 12], "down": [2], "fold": 2},
    3: {"kind": "unet", "features": [6, 8], "down": [2], "ndim": 3},
}
DCAN = {"kind": "dcan", "features": [6, 8, 8], "fused": 2, "dropout": 0.0}
COMPONENTS = {"kind": "components", "threshold": 0.5}


def balls(space, num=5, seed=0):
    """Labels of touching discs or balls, and an image in which they are bright."""
    rng = np.random.default_rng(seed)
    grid = np.indices(space)
    labels = np.zeros(space, np.int64)
    for k in range(num):
        centre, radius = [rng.uniform(0, n) for n in space], rng.uniform(3, 6)
        labels[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2] = k + 1
    image = 0.8 * (labels > 0) + 0.05 * rng.standard_normal(space)
    return image.astype(np.float32), labels


def batch(space=(32, 32), num=2, channels=1, valid=None):
    made = [balls(space, seed=k) for k in range(num)]
    image = torch.from_numpy(np.stack([image for image, _ in made]))[:, None].repeat_interleave(channels, 1)
    labels = torch.from_numpy(np.stack([labels for _, labels in made]))[:, None]
    weight = torch.ones_like(image[:, :1]) if valid is None else valid
    return Sample({"image": Layer(image, "image"), "labels": Layer(labels, "label"), "valid": Layer(weight, "weight")})


def task(ndim=2, **changes):
    torch.manual_seed(0)
    return SegmentConfig.load({"net": TINY[ndim], "imaging": [], "specimen": [], **changes}).build()


def learnt(build, data, steps, rate=0.02):
    build.phases(steps)
    optimiser = torch.optim.Adam(build.net.parameters(), rate)
    for step in range(steps):
        sample = build.sample(data, stream(0, step), True)
        parts = build.loss(sample, step)
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
    build.net.eval()
    with torch.no_grad():
        return build.validate(build.sample(data, stream(0), False))


@pytest.mark.parametrize(("ndim", "space", "steps"), [(2, (32, 32), 120), (3, (8, 16, 16), 100)])
def test_it_learns_one_sample_by_heart(ndim, space, steps):
    scores = learnt(task(ndim), batch(space, num=1), steps)
    assert scores["object_iou"] > 0.9
    assert scores["boundary_iou"] > 0.6
    assert scores["ap50"] > 0.7


def test_dcan_learns_from_its_levels_too():
    build = task(net=DCAN, heads=["objects", "boundaries"], instances=COMPONENTS)
    build.phases(10)
    sample = build.sample(batch(), stream(0), True)
    first, last = build.loss(sample, 0), build.loss(sample, 10)
    assert first["total"].item() == pytest.approx((last["total"] + first["auxiliary"]).item(), rel=1e-5)
    assert "auxiliary" not in last
    first["auxiliary"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in build.net.net.branches.parameters())


def test_what_is_ignored_changes_nothing():
    """Whatever the net makes of a blob, and whatever it is labelled, the loss and its gradient are the same."""
    valid = torch.ones(2, 1, 32, 32)
    valid[..., 8:20, 8:20] = 0
    build = task()
    sample = build.sample(batch(valid=valid), stream(0), False)
    blob = sample.valid.expand(-1, 3, -1, -1) == 0
    plain = build.loss(sample, 0)

    def elsewise(module, inputs, output):
        output.retain_grad()
        kept.append(output)
        return torch.where(blob, 50.0, output)

    kept: list[torch.Tensor] = []
    handle = build.net.net.register_forward_hook(elsewise)
    changed = build.loss(sample, 0)
    handle.remove()
    assert {k: v.item() for k, v in changed.items()} == {k: v.item() for k, v in plain.items()}
    sample = replace(sample, targets={k: torch.where(valid == 0, 1 - t, t) for k, t in sample.targets.items()})
    build.loss(sample, 0)["total"].backward()
    assert build.loss(sample, 0)["total"].item() == plain["total"].item()
    whole = build.sample(batch(), stream(0), False)
    assert build.loss(whole, 0)["total"].item() != plain["total"].item()


def test_means_do_not_depend_on_how_much_is_annotated():
    logits, target = torch.randn(1, 1, 8, 8), torch.randint(0, 2, (1, 1, 8, 8)).float()
    half = torch.zeros(1, 1, 8, 8)
    half[..., :4] = 1
    cut = [x[..., :4] for x in (logits, target)]
    for part in (loss.cross_entropy, loss.dice):
        assert part(logits, target, half).item() == pytest.approx(part(*cut, torch.ones_like(cut[0])).item(), rel=1e-6)
    assert loss.cross_entropy(logits, target, half * 0) == 0


def test_overlap_by_hand():
    target = torch.zeros(1, 1, 2, 4)
    target[..., :2] = 1
    assert loss.overlap(target, target, torch.ones_like(target)) == 1
    assert loss.overlap(target.roll(1, -1), target, torch.ones_like(target)).item() == pytest.approx((2 + 1) / (6 + 1))


@pytest.mark.parametrize("space", [(32, 32), (40, 32), (10, 24, 24)])
def test_crowded_crops_hold_their_own_cells_twice(space):
    data = batch(space, num=3)
    data = data.with_layers(frame=Layer(torch.rand(3, 1, *space), "weight"))
    copies = [None, *draw(stream(1), data, 1.0)[1:]]
    crowded = crowd(data, copies)
    for k, copy in enumerate(copies):
        before, after = ({name: layer.tensor[k] for name, layer in sample.items()} for sample in (data, crowded))
        if copy is None:
            assert all(torch.equal(before[name], after[name]) for name in before)
            continue
        cells = copy(before["labels"]) > 0
        assert not torch.equal(cells, before["labels"] > 0)
        assert torch.equal(after["labels"] > 0, cells | (before["labels"] > 0))
        assert torch.equal(after["labels"][~cells], before["labels"][~cells])
        above = set(after["labels"][cells].unique().tolist())
        assert not above & set(before["labels"].unique().tolist())
        assert len(above) == len(before["labels"].unique()) - 1
        assert torch.equal(after["frame"], before["frame"] * copy(before["frame"]))
        assert torch.all(after["image"] >= copy(before["image"]))
    dark = data.with_tensors(image=1 - data["image"].tensor)
    assert torch.allclose(crowd(dark, copies)["image"].tensor, 1 - crowded["image"].tensor, atol=1e-6)
    assert draw(stream(1), data, 0.0) == [None] * 3
    assert crowd(data, [None] * 3) is data
    filled = data.with_tensors(labels=data["labels"].tensor + 1)
    assert crowd(filled, copies) is filled


def test_small_cells_count_more():
    labels = torch.zeros(1, 1, 32, 32, dtype=torch.int64)
    labels[..., 4:8, 4:8] = 1  # 16 pixels
    labels[..., 12:28, 12:16] = 2  # 64
    labels[..., 2:18, 20:30] = 3  # 160
    data = batch(num=1).with_tensors(labels=labels)
    plain, weighted = (task(small_weight=power).sample(data, stream(0), True) for power in (0.0, 0.5))
    assert torch.equal(plain.emphasis, torch.ones_like(plain.valid))
    for value, expected in [(1, (64 / 16) ** 0.5), (2, 1.0), (3, (64 / 160) ** 0.5)]:
        assert weighted.emphasis[labels == value].unique().tolist() == pytest.approx([expected])
    assert weighted.emphasis[0, 0, 2, 5] == pytest.approx(2.0)  # what parts the small cell from others
    assert weighted.emphasis[0, 0, 31, 5] == 1
    empty = task(small_weight=0.5).sample(data.with_tensors(labels=torch.zeros_like(labels)), stream(0), True)
    assert torch.equal(empty.emphasis, torch.ones_like(empty.valid))


def test_emphasis_changes_what_the_loss_looks_at():
    build = task(small_weight=0.5)
    sample = build.sample(batch(), stream(0), True)
    weighted = build.loss(sample, 0)
    plain = build.loss(replace(sample, emphasis=torch.ones_like(sample.valid)), 0)
    double = build.loss(replace(sample, emphasis=2 * torch.ones_like(sample.valid)), 0)
    assert weighted["distance"] != plain["distance"]
    assert double["total"].item() == pytest.approx(plain["total"].item(), rel=1e-5)


def test_targets_are_those_of_the_labels_and_imaging_leaves_them():
    data = batch()
    noisy = task(imaging=[{"kind": "noise", "p": 1.0, "std": [0.2, 0.2]}]).sample(data, stream(0), True)
    labels = data["labels"].tensor[0, 0].numpy()
    assert (noisy.image - data["image"].tensor).abs().mean() > 0.1
    assert np.array_equal(noisy.targets["objects"][0, 0].numpy(), labels > 0)
    assert np.array_equal(noisy.targets["boundaries"][0, 0].numpy(), targets.boundaries(labels))
    assert np.array_equal(noisy.targets["distance"][0, 0].numpy(), targets.distance(labels))
    clean = task(imaging=[{"kind": "noise", "p": 1.0, "std": [0.2, 0.2]}]).sample(data, stream(0), False)
    assert torch.equal(clean.image, data["image"].tensor)


def test_beyond_the_frame_nothing_counts_and_no_cell_ends():
    labels = torch.ones(1, 1, 64, 64, dtype=torch.int64)
    full = Sample(
        {
            "image": Layer(torch.ones(1, 1, 64, 64), "image"),
            "labels": Layer(labels, "label"),
            "valid": Layer(torch.ones(1, 1, 64, 64), "weight"),
        }
    )
    turn = {"kind": "rotate", "p": 1.0, "degrees": {"kind": "uniform", "low": 45, "high": 45}}
    turned = task(specimen=[turn]).sample(full, stream(0), True)
    assert 0.7 < turned.valid.mean() < 0.9
    assert turned.targets["boundaries"].sum() == 0
    assert (turned.targets["distance"][turned.valid > 0.999] == 1).all()
    kept = task(specimen=[turn], trim=0.7).sample(full, stream(0), True)
    assert kept.image.shape[-2:] == (44, 44)
    assert kept.valid.min() > 0.999


def test_the_same_stream_gives_the_same_sample():
    build = SegmentConfig.load({"net": TINY[2]}).build()
    a, b, c = (build.sample(batch(), stream(0, k), True) for k in (1, 1, 2))
    assert torch.equal(a.image, b.image)
    assert not torch.equal(a.image, c.image)


def test_valid_convolutions_are_scored_on_what_they_give():
    build = task(net={**TINY[2], "padding": "valid"})
    assert min(build.net.margin) > 0
    sample = build.sample(batch((64, 64)), stream(0), True)
    assert torch.isfinite(build.loss(sample, 0)["total"])
    build.net.eval()
    with torch.no_grad():
        assert torch.isfinite(build.validate(sample)["total"])
        assert set(build.panels(sample)) == {"objects.png", "boundaries.png", "instances.png"}


@pytest.mark.parametrize(("ndim", "space"), [(2, (32, 32)), (3, (8, 16, 16))])
def test_panels_are_pictures(ndim, space):
    build = task(ndim)
    build.net.eval()
    with torch.no_grad():
        drawn = build.panels(build.sample(batch(space), stream(0), False))
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


def test_data_that_do_not_fit_are_refused():
    build = task()
    with pytest.raises(UserError, match=r"the images have 3 channels.*the net takes 1; set task\.channels=3"):
        build.check(batch(channels=3))
    with pytest.raises(UserError, match="the data have 3 spatial axes, the net 2"):
        build.check(batch((8, 16, 16)))
    with pytest.raises(UserError, match="lack labels, valid"):
        build.check(batch().without("labels", "valid"))
    with pytest.raises(UserError, match=r"multiples of \(4, 4\); set data.crop to \(4, 4\) or more"):
        kept_size((3, 3), 1.0, (4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ["boundaries", "distance"]}, "lack 'objects'"),
        ({"heads": ["objects", "boundaries"]}, "need distance"),
        ({"heads": ["objects", "objects"]}, "name each head once"),
        ({"obj_weight": 0, "bnd_weight": 0, "dist_weight": 0}, "nothing to learn"),
        ({"boundary_thickness": 3}, "boundary_thickness"),
        ({"voxel_size": [1.0, 2.0, 2.0]}, "must be 2 lengths"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        SegmentConfig.load(changes)
