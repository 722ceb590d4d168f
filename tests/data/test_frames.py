"""Frames as training data: what a sample holds, where it comes from, what counts, and what is refused."""

import pickle

import numpy as np
import pytest
import tifffile
import torch

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.frames import IMAGE, TARGET, WEIGHT, FramesData
from lamella.io import open_volume
from lamella.prep.convert import convert
from lamella.prep.foreground import make_masks
from lamella.prep.frame_settings import MaskSettings, StatisticsSettings, TileSettings
from lamella.prep.statistics import measure_statistics
from lamella.prep.tiles import make_tiles
from tests.data.experiments import frame, make_frames


def data(folder, **changes):
    source = {"path": str(folder), **changes.pop("source", {})}
    return FramesData.load({"sources": [source], "inputs": [0], "targets": [1], "crop": 24, "length": 8, **changes})


def values(sample, name):
    return sample[name].tensor[0].numpy()


def units(samples, k=0):
    """Raw intensities that became 0 and 1 for target ``k``."""
    (low, high), group = samples.config.measured.units[k], samples.config.preprocessing.statistics.groups
    own = next(g for g in group if g.channel == samples.config.measured.numbers[k])
    return low * own.spread + own.centre, high * own.spread + own.centre


def test_input_and_target_are_of_the_same_place(tmp_path):
    samples = data(make_frames(tmp_path / "f", targets=2), targets=[2, 1], clip=False).build(0)
    group = samples.config.preprocessing.statistics.groups[0]
    for sample in samples:
        shown = values(sample, IMAGE)[0] * group.spread + group.centre
        for k, channel in enumerate((2, 1)):
            low, high = units(samples, k)
            raw = values(sample, TARGET)[k] * (high - low) + low
            np.testing.assert_allclose(raw, 100 * channel + 10 * channel * shown, rtol=1e-4, atol=1e-3)
        assert values(sample, WEIGHT).min() == 1


def test_the_window_is_the_slices_around_the_target_one_channel_after_the_other(tmp_path):
    folder = make_frames(tmp_path / "f", slices=7, targets=1)
    samples = data(folder, inputs=[0, 1], depth=5, crop=[40, 48], source={"positions": ["p001"]}).build(0)
    centre = [(g.centre, g.spread) for g in samples.config.preprocessing.statistics.groups]
    sample = samples[0]
    assert sample[IMAGE].tensor.shape == (1, 10, 40, 48)
    z = next(
        z
        for z in (2, 3, 4)
        if np.allclose(values(sample, IMAGE)[2], (frame(folder, 0, z, 1) - centre[0][0]) / centre[0][1], atol=1e-4)
    )
    for c, (middle, spread) in enumerate(centre):
        for k in range(5):
            expected = (frame(folder, c, z - 2 + k, 1) - middle) / spread
            np.testing.assert_allclose(values(sample, IMAGE)[5 * c + k], expected, rtol=1e-3, atol=1e-3)


def test_a_whole_window_of_targets_follows_the_same_order(tmp_path):
    samples = data(make_frames(tmp_path / "f", slices=5, targets=2), targets=[1, 2], depth=3, whole_window=True).build(
        0
    )
    sample = samples[3]
    shown, target = values(sample, IMAGE), values(sample, TARGET)
    assert target.shape == (6, 24, 24)
    for k in range(6):
        assert abs(np.corrcoef(shown[k % 3].ravel(), target[k].ravel())[0, 1]) > 0.99


def test_volumes_have_slices_as_an_axis(tmp_path):
    samples = data(make_frames(tmp_path / "f", slices=6), ndim=3, crop=[4, 24, 24]).build(0)
    sample = samples[1]
    assert sample[IMAGE].tensor.shape == sample[TARGET].tensor.shape == (1, 1, 4, 24, 24)
    assert np.corrcoef(values(sample, IMAGE).ravel(), values(sample, TARGET).ravel())[0, 1] > 0.99


def test_samples_depend_on_their_number_alone(tmp_path):
    settings = data(make_frames(tmp_path / "f"), length=None)
    samples = settings.build(3)
    forwards = [samples[k][IMAGE].tensor for k in range(4)]
    copy = pickle.loads(pickle.dumps(settings.build(3)))
    for k in reversed(range(4)):
        torch.testing.assert_close(copy[k][IMAGE].tensor, forwards[k], rtol=0, atol=0)
    assert not torch.equal(settings.build(4)[0][IMAGE].tensor, forwards[0])


def test_frames_in_memory_and_from_disk_are_the_same(tmp_path):
    folder = make_frames(tmp_path / "f")
    kept, read = (data(folder, cache_gb=gb, overhang=6).build(0) for gb in (1, 0))
    assert all(image.kept is None for stack in read.stacks for image in stack.images)
    for k in range(4):
        for name in (IMAGE, TARGET, WEIGHT):
            torch.testing.assert_close(kept[k][name].tensor, read[k][name].tensor, rtol=0, atol=0)


def test_plates_and_volumes_give_the_same_samples(tmp_path):
    folder = make_frames(tmp_path / "f", positions=2)
    convert(str(folder), str(tmp_path / "plate.ome.zarr"))
    plate = data(tmp_path / "plate.ome.zarr").build(0)
    frames = data(folder).build(0)
    for k in range(3):
        torch.testing.assert_close(plate[k][IMAGE].tensor, frames[k][IMAGE].tensor)
    volume = data(f"{folder}/p001", source={}).build(0)
    assert volume[0][IMAGE].tensor.shape == (1, 1, 24, 24)


def test_only_slices_with_a_target_are_learnt_and_others_do_not_count(tmp_path):
    folder = make_frames(tmp_path / "f", slices=5, targets=2, only=(0, 1, 3), skip={(0, 2, 1, 1)})
    samples = data(folder, targets=[1, 2], depth=3, length=40).build(0)
    assert {stack.planes for stack in samples.stacks} == {(1, 3)}
    present = {tuple(values(sample, WEIGHT).max((1, 2))) for sample in samples}
    assert present == {(1.0, 1.0), (1.0, 0.0)}
    single = make_frames(tmp_path / "single", slices=5, only=(2,))
    deep = data(single, ndim=3, crop=[4, 24, 24]).build(0)
    for sample in deep:
        assert sorted(values(sample, WEIGHT)[0].max((1, 2))) == [0, 0, 0, 1]


def test_what_lies_outside_the_image_or_in_the_context_does_not_count(tmp_path):
    folder = make_frames(tmp_path / "f")
    hanging = [values(s, WEIGHT)[0] for s in data(folder, overhang=10, length=20).build(0)]
    assert min(w.mean() for w in hanging) < 1
    assert all(w.max() == 1 for w in hanging)
    inner = values(data(folder, context=4).build(0)[0], WEIGHT)[0]
    assert inner[4:-4, 4:-4].min() == 1
    assert inner.sum() == 16 * 16


def test_tiles_count_every_pixel_once(tmp_path):
    tiles = data(make_frames(tmp_path / "f", positions=2), length=None, context=2).held_out(0)
    assert sum(values(tile, WEIGHT).sum() for tile in tiles) == 2 * 3 * 40 * 48


def test_statistics_are_those_of_what_is_trained_on(tmp_path):
    folder = make_frames(tmp_path / "f", positions=4)
    for p in range(4):
        for z in range(3):
            path = folder / f"im_c001_z{z:03d}_t000_p{p:03d}.tif"
            tifffile.imwrite(path, tifffile.imread(path) + np.float32(1000 * p))
    split = {"parts": {"train": ["p000"], "validation": ["p003"]}}
    settled = data(folder, split=split).settled()
    own = np.stack([frame(folder, 1, z, 0) for z in range(3)])
    group = next(g for g in settled.preprocessing.statistics.groups if g.channel == 1)
    lower, middle, upper = np.percentile(own, (25, 50, 75))
    assert group.centre == pytest.approx(middle)
    assert group.spread == pytest.approx(upper - lower)
    low, high = settled.measured.units[0]
    expected = np.percentile(own, (1, 99.9))
    np.testing.assert_allclose(np.array([low, high]) * group.spread + group.centre, expected, rtol=1e-5)


def test_what_was_settled_is_used_as_it_is(tmp_path):
    settings = data(make_frames(tmp_path / "f", positions=4), split={})
    settled = settings.settled()
    again = FramesData.load(settled.to_dict())
    assert again == settled
    assert again.settled() is again
    held_out = settings.like(settled)
    assert held_out.split.parts == settled.split.parts
    chosen = {stack.position for stack in held_out.stacks("validation")}
    assert chosen == set(settled.split.parts["validation"])
    assert not chosen & {stack.position for stack in settled.stacks("train")}


def test_measures_of_prep_are_applied_as_they_are(tmp_path):
    folder = make_frames(tmp_path / "f")
    measure_statistics(str(folder), tmp_path / "prep", StatisticsSettings(centre="mean", clip=(2.0, 98.0)))
    samples = data(folder, preprocessing=str(tmp_path / "prep"), crop=[40, 48]).build(0)
    view = samples.config.preprocessing.view(open_volume(str(folder), dataset="p000"))
    frames = [view.read(Box((0, 0, z, 0, 0), (1, 1, z + 1, 40, 48)))[0, 0, 0] for z in range(3)]
    found = [values(s, IMAGE)[0] for s in samples]
    assert any(np.array_equal(a, b) for a in found for b in frames)


@pytest.mark.parametrize("own", [None, 0.5], ids=["the rule of prep", "its own"])
def test_every_crop_has_enough_foreground(tmp_path, own):
    folder = make_frames(tmp_path / "f", size=(64, 64))
    make_masks(str(folder), tmp_path / "prep", MaskSettings(channels=(1,), radius=1))
    if own is None:
        make_tiles(str(folder), tmp_path / "prep", TileSettings(size=(16, 16), min_fraction=0.5, write=False))
    samples = data(
        folder, preprocessing=str(tmp_path / "prep"), crop=16, min_fraction=own, weigh="mask", length=60
    ).build(0)
    shares = [values(sample, WEIGHT).mean() for sample in samples]
    assert min(shares) >= 0.5
    assert len({round(float(s), 4) for s in shares}) > 20  # not the same few tiles


def test_masks_and_weight_maps_say_what_counts(tmp_path):
    folder = make_frames(tmp_path / "f", slices=3, only=(1,))
    make_masks(str(folder), tmp_path / "prep", MaskSettings(channels=(1,), radius=1, weights=True))
    measures = str(tmp_path / "prep")
    whole = {"preprocessing": measures, "crop": [40, 48], "source": {"positions": ["p000"]}}
    mask = open_volume(f"{measures}/masks/p000.ome.zarr").read(Box((0, 0, 1, 0, 0), (1, 1, 2, 40, 48)))[0, 0, 0]
    np.testing.assert_array_equal(values(data(folder, weigh="mask", **whole).build(0)[0], WEIGHT)[0], mask)
    weights = open_volume(f"{measures}/weights/p000.ome.zarr").read(Box((0, 0, 1, 0, 0), (1, 1, 2, 40, 48)))[0, 0, 0]
    np.testing.assert_allclose(values(data(folder, weigh="weights", **whole).build(0)[0], WEIGHT)[0], weights)
    target = data(folder, targets=[], target="mask", **whole).build(0)[0]
    np.testing.assert_array_equal(values(target, TARGET)[0], mask)


def test_labels_become_ones(tmp_path):
    folder = make_frames(tmp_path / "f", positions=1, slices=1)
    labels = np.zeros((40, 48), np.float32)
    labels[5:20, 5:20], labels[25:30] = 7, 3
    tifffile.imwrite(folder / "im_c001_z000_t000_p000.tif", labels)
    sample = data(folder, target="binary", crop=[40, 48]).build(0)[0]
    np.testing.assert_array_equal(values(sample, TARGET)[0], labels > 0)
    assert sample[TARGET].kind == "label"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"depth": 4}, "depth 4 is even.*3 or 5"),
        ({"ndim": 3, "depth": 3, "crop": [2, 24, 24]}, "slices are an axis"),
        ({"targets": []}, "name the channels"),
        ({"crop": 0}, "crop 0"),
        ({"context": 12}, "leaves nothing"),
        ({"target_range": [50, 50]}, "percentiles"),
        ({"weigh": "mask"}, "lamella prep masks"),
        ({"weigh": "weights"}, "lamella prep masks --weights"),
        ({"min_fraction": 0.2}, "needs masks"),
        ({"augmentations": {}}, "unknown key 'augmentations'"),
        ({"preprocessing": "nowhere.prep"}, "nowhere.prep is no preprocessing"),
        ({"split": {"train": 0}}, "nothing to train on"),
        ({"split": {"parts": {"train": ["p000"], "test": ["p000"]}}}, "p000 is in train and in test"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        data(tmp_path, **changes)


@pytest.mark.parametrize(
    ("made", "changes", "told"),
    [
        ({"slices": 3}, {"depth": 5}, "3 slices, fewer than depth 5; set data.depth and task.depth to at most 3"),
        ({"slices": 5, "only": (0,)}, {"depth": 3}, "no slice has a target"),
        ({"skip": {(0, 1, z, 2) for z in range(3)}}, {}, "p002 has no frames of channel 1"),
        ({}, {"targets": [4]}, "channel 4 is not in"),
        ({}, {"source": {"positions": ["p009"]}}, "p009 are not in .* which has p000, p001, p002"),
        ({}, {"source": {"z": "9:12"}}, "9:12"),
        ({"positions": 2}, {"split": {"train": 0.9, "test": 0.1, "validation": 0}}, "leave nothing for test"),
        ({}, {"split": {"column": "well"}}, "no column 'well' .* only position, time, slice, sample"),
        ({"skip": {(0, 0, 1, 0)}}, {"ndim": 3, "crop": [2, 24, 24]}, "slices 1 lack some"),
        ({}, {"ndim": 3, "crop": [2, 24, 24], "split": {"column": "slice"}}, "volumes are not cut up"),
        ({}, {"split": {"parts": {"train": ["p007"]}}}, "p007 .train.*do not have"),
    ],
)
def test_data_that_cannot_be_learnt_from_are_refused_by_name(tmp_path, made, changes, told):
    with pytest.raises(UserError, match=told):
        data(make_frames(tmp_path / "f", **made), **changes).build(0)


def test_constant_channels_and_nan_are_refused(tmp_path):
    folder = make_frames(tmp_path / "f", positions=1, slices=1)
    tifffile.imwrite(folder / "im_c001_z000_t000_p000.tif", np.full((40, 48), 7, np.float32))
    with pytest.raises(UserError, match=r"channel 1 is 0 .*constant, so leave it out"):
        data(folder).build(0)
    half = np.full((40, 48), 7, np.float32)
    half[:5] = 9
    tifffile.imwrite(folder / "im_c001_z000_t000_p000.tif", half)
    with pytest.raises(UserError, match=r"interquartile range .* set data.centre=mean"):
        data(folder).build(0)
    assert data(folder, centre="mean").build(0)[0]
    half[3, 3] = np.nan
    tifffile.imwrite(folder / "im_c001_z000_t000_p000.tif", half)
    with pytest.raises(UserError, match="NaN or infinity in channel 1"):
        data(folder).build(0)


def test_masks_that_leave_nothing_are_refused(tmp_path):
    folder = make_frames(tmp_path / "f")
    make_masks(str(folder), tmp_path / "prep", MaskSettings(channels=(1,), radius=1))
    with pytest.raises(UserError, match="masks leave nothing to train on"):
        data(folder, preprocessing=str(tmp_path / "prep"), min_fraction=0.99).build(0)
