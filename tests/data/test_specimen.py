"""What single specimen augmentations do, by hand: tears, cuts, jitter, order."""

import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.augment import Blackout, Crack, Cut, Fold, Jitter, Reverse, augment, default_specimen, jitter_reach
from lamella.data.augment.base import Normal
from lamella.data.augment.jitter import draw_shift
from lamella.data.augment.seams import Seam
from lamella.data.sample import Layer, Sample
from lamella.data.tear import Tear
from lamella.data.truth import seen, with_truth


def straight(opening: int, place: int = 4, along_x: bool = True) -> Tear:
    """A seam straight through 10 voxels, in the first of two sections only."""
    return Tear(np.full((1, 2, 10), place), np.full((1, 2), along_x), np.array([[opening, 0]]))


def row_sample(rows: int = 3, width: int = 10) -> Sample:
    """Two sections whose intensity tells the column: 0.1 for column 0, 0.2 for column 1, ..."""
    ramp = (torch.arange(width) + 1.0) / 10
    return Sample({"sections": Layer(ramp.expand(1, 2, rows, width).clone(), "image")})


def columns(sample: Sample, section: int = 0) -> list[int]:
    """Which column each voxel of the middle row shows; -1 where it shows none."""
    return (sample["sections"].tensor[0, section, 1] * 10).round().int().sub(1).tolist()


def test_a_crack_pulls_the_halves_apart():
    seam = Seam(straight(3), np.full((1, 2), 0.0), np.zeros((1, 2)), 0)
    after = Crack(near=1).apply(row_sample(), seam)
    # three voxels open between columns 3 and 4: one taken from the left, two from the right; filled with the darkest grey
    assert columns(after) == [1, 2, 3, -1, -1, -1, 4, 5, 6, 7]
    assert columns(after, 1) == list(range(10))
    assert after["masks"].tensor[0, 0, 1].tolist() == [0, 0, 1, 2, 2, 2, 1, 0, 0, 0]
    assert not after["masks"].tensor[0, 1].any()


def test_a_fold_pushes_the_halves_together():
    seam = Seam(straight(-3), np.full((1, 2), 0.5), np.full((1, 2), 1.0), 0)
    before = row_sample().with_tensors(sections=row_sample()["sections"].tensor)
    after = Fold(near=1).apply(before, seam)
    # one voxel of the left and two of the right half are hidden: column 2 meets column 6, both dimmed by one half
    shown = (after["sections"].tensor[0, 0, 1] * 10).tolist()
    assert shown == pytest.approx([0, 1, 2, 1.5, 3.5, 8, 9, 10, 0, 0], abs=1e-4)
    assert after["masks"].tensor[0, 0, 1].tolist() == [0, 0, 1, 2, 2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("opening", [-7, -4, -1, 0, 1, 6])
@pytest.mark.parametrize("along_x", [True, False])
def test_a_tear_is_undone_except_where_nothing_is_left(opening, along_x):
    tear = straight(opening, along_x=along_x)
    y, x = np.meshgrid(np.arange(10.0), np.arange(10.0), indexing="ij")
    places = torch.as_tensor(np.stack([y, x]).reshape(1, 1, 2, 100))
    there = tear.pull(places)
    gap = tear.near(places) if opening > 0 else torch.zeros(1, 2, 100, dtype=torch.bool)
    assert torch.where(gap[:, :, None], 0, tear.push(there) - places).abs().max() == 0
    hidden = tear.hides(places)
    assert torch.where(hidden[:, :, None], 0, tear.pull(tear.push(places)) - places).abs().max() == 0
    assert hidden[0, 0].sum() == max(-opening, 0) * 10
    assert gap[0, 0].sum() == max(opening, 0) * 10
    assert not hidden[0, 1].any()


@pytest.mark.parametrize("cls", [Crack, Fold])
@pytest.mark.parametrize("section", [0, 1])
def test_truth_through_a_tear_by_hand(cls, section):
    """Two equal sections; tearing the source moves the truth by what its halves move, tearing the target the other way."""
    opening = {Crack: 4, Fold: -4}[cls]
    tear = Tear(
        np.full((1, 2, 20), 10), np.ones((1, 2), bool), np.array([[opening * (section == 0), opening * (section == 1)]])
    )
    ramp = Sample({"sections": Layer(torch.full((1, 2, 20, 20), 0.5), "image")})
    sample = with_truth(ramp, torch.zeros(1, 2, 20, 20), source=(0,), target=(1,))
    after = cls().apply(sample, Seam(tear, np.full((1, 2), 0.5), np.zeros((1, 2)), 0))
    across, valid = after["truth"].tensor[0, 1, 5], seen(after)[0, 0, 5]
    outwards = opening // 2 if section == 0 else -opening // 2
    known = valid == 1
    expected = torch.where(torch.arange(20) < 10, -outwards, outwards).float()
    assert torch.equal(across[known], expected[known])
    lost = {(Crack, 0): 4, (Crack, 1): 4, (Fold, 0): 4, (Fold, 1): 4}[cls, section]
    # opened source: 2 columns at either end are pushed out of it; torn target: the gap; folded source: hidden tissue; folded
    # target: 2 columns at either end are empty
    assert (~known).sum() == lost
    assert not after["truth"].tensor[0, 0].any()


def test_labels_and_weights_leave_the_gap():
    sample = row_sample().with_layers(
        ids=Layer(torch.full((1, 2, 3, 10), 7), "label"), trust=Layer(torch.ones(1, 2, 3, 10), "weight")
    )
    after = Crack().apply(sample, Seam(straight(4), np.full((1, 2), 0.9), np.zeros((1, 2)), 0))
    assert (after["ids"].tensor[0, 0] == 0).sum() == 12
    assert (after["trust"].tensor[0, 0] == 0).sum() == 12
    assert (after["ids"].tensor[0, 1] == 7).all()


def test_seams_stay_in_the_middle_and_have_the_widths_asked_for():
    sample = Sample({"sections": Layer(torch.full((50, 2, 64, 96), 0.5), "image")})
    tear = Crack(p=1, lean=(0, 0)).draw(stream(1), sample).tear
    assert tear.opening.min() >= 4
    assert tear.opening.max() <= 31
    steps = np.abs(np.diff(tear.seam, axis=-1))
    assert steps.max() <= 2  # a step of the walk and one of rounding
    assert 0.1 < (steps > 0).mean() < 1 / 3
    assert Fold(p=1).draw(stream(2), sample).tear.opening.max() < 0


def test_cut_takes_a_strip_from_each_axis_of_the_image_only():
    sections = torch.full((40, 2, 120, 150), 0.5)
    masks = torch.full((40, 2, 120, 150), 2.0)
    sample = Sample({"sections": Layer(sections, "image"), "masks": Layer(masks, "mask")})
    after = Cut(p=1)(sample, stream(3))
    assert torch.equal(after["masks"].tensor, masks)
    left = after["sections"].tensor > 0
    rows, cols = left.any(-1).sum(-1), left.any(-2).sum(-1)
    assert rows.min() >= 120 - 40
    assert rows.max() <= 120 - 32
    assert cols.min() >= 150 - 50
    assert cols.max() <= 150 - 32
    assert (rows[:, 0] == rows[:, 1]).all()
    assert torch.equal(left, left.any(-1, keepdim=True) & left.any(-2, keepdim=True))
    own = Cut(p=1, per_section=True)(sample, stream(3))["sections"].tensor > 0
    assert (own[:, 0] != own[:, 1]).any()


def test_blackouts_are_dark_and_marked():
    sample = Sample({"sections": Layer(torch.full((10, 2, 200, 200), 0.5), "image")})
    after = Blackout(p=1, near=5)(sample, stream(4))
    dark = after["sections"].tensor < 0.1
    assert torch.equal(dark, after["masks"].tensor == 2)
    assert (after["masks"].tensor == 1).any()
    assert (dark.sum((-1, -2)) >= 40 * 40).all()


def test_larger_shifts_are_commoner_but_none_is_rare():
    shifts = draw_shift(stream(5), 10, (200_000,))
    count = np.bincount(np.abs(shifts))[1:]
    assert set(np.unique(shifts)) == {*range(-10, 0), *range(1, 11)}
    assert count[9] / count[:4].mean() == pytest.approx(4, rel=0.1)
    assert count[9] / count[6] == pytest.approx(100 / 49, rel=0.1)
    assert abs(shifts.mean()) < 0.1
    assert not draw_shift(stream(5), 0, (4,)).any()


def test_half_of_the_sections_are_shifted():
    sample = Sample({"sections": Layer(torch.zeros(400, 3, 9, 9), "image")})
    still = {"degrees": Normal(mean=0, std=0), "scale": Normal(mean=1, std=0)}
    offset = Jitter(max_shift=4, **still).draw(stream(6), sample).links[0].offset
    assert (offset != 0).all(-1).mean() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal((offset != 0).all(-1), (offset != 0).any(-1))


@pytest.mark.parametrize(("levels", "reach"), [(5, 5), (7, 22), (8, 45)])
def test_jitter_reach(levels, reach):
    assert jitter_reach(levels) == reach


def test_reversed_sections_take_their_fields_along():
    sections = torch.arange(3.0).reshape(1, 3, 1, 1).expand(1, 3, 4, 4).clone()
    sample = with_truth(
        Sample({"sections": Layer(sections, "image")}), torch.ones(1, 4, 4, 4), source=(0, 1), target=(1, 2)
    )
    after = Reverse(p=1)(sample, stream(7))
    assert after["sections"].tensor[0, :, 0, 0].tolist() == [2, 1, 0]
    assert (after["truth"].on, after["truth"].to) == ((1, 0), (2, 1))
    assert after["valid"].on == (1, 0)


def test_the_default_list_moves_everything_together():
    image = torch.rand(4, 3, 64, 64).clamp_min(0.1)
    sample = Sample({"sections": Layer(image, "image"), "masks": Layer((image > 0.9).float() * 2, "mask")})
    after = augment(sample, default_specimen(5), stream(8))
    assert after["sections"].tensor.shape == image.shape
    assert not torch.equal(after["sections"].tensor, image)


def test_damage_refuses_what_it_cannot_draw_into():
    whole = Sample({"sections": Layer(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), "image")})
    for each in (Crack(), Fold(), Blackout()):
        with pytest.raises(UserError, match="floats"):
            each(whole, stream(0))
    volume = Sample({"sections": Layer(torch.zeros(1, 2, 8, 8, 8), "image")})
    for each in (Crack(), Fold(), Blackout(), Cut(), Jitter()):
        with pytest.raises(UserError, match="3D"):
            each(volume, stream(0))


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Crack, {"width": [31, 4]}, "low end comes first"),
        (Crack, {"width": [0, 4]}, "greater than 0"),
        (Fold, {"p": 1.5}, "less than or equal to 1"),
        (Jitter, {"max_shfit": 3}, "did you mean 'max_shift'"),
        (Jitter, {"scale": {"kind": "uniform", "low": 2, "high": 1}}, "low end comes first"),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(cls, values, message):
    with pytest.raises(UserError, match=message):
        cls.load(values)
