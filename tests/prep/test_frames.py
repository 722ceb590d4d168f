"""Measuring frames: known answers, what is wrong with data and settings, and stages that are killed, repeated, replaced."""

from __future__ import annotations

import csv
import json
import os

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import yaml
from skimage.filters import threshold_otsu

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.io import open_volume
from lamella.io.frames import present
from lamella.io.preprocessing import Preprocessing
from lamella.ops.foreground import border_weights
from lamella.ops.shading import polynomial_shading
from lamella.ops.threshold import foreground_mask, smoothed
from lamella.prep import foreground
from lamella.prep.foreground import make_masks
from lamella.prep.frame_settings import (
    MaskSettings,
    PrepConfig,
    ResizeSettings,
    Selection,
    ShadingSettings,
    StatisticsSettings,
    TileSettings,
)
from lamella.prep.pipeline import read_config, run_prep, set_resize
from lamella.prep.shading import measure_shading
from lamella.prep.statistics import measure_statistics
from lamella.prep.tiles import make_tiles, places, tile_rule
from tests.io.cases import fingerprint

SIZE = (48, 64)
PHASE, STAIN = 0, 1


def light():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    field = 1 - 0.3 * ((2 * y + 1) / SIZE[0] - 1) ** 2 - 0.2 * ((2 * x + 1) / SIZE[1] - 1) ** 2
    return field / field.mean()


def cells(p, empty=False):
    """Two discs on a ground of 500, evenly lit."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rng = stream(3, p)
    image = 500 + rng.normal(0, 10, SIZE)
    for _ in range(0 if empty else 2):
        at = rng.integers(12, 36, 2)
        image[np.hypot(y - at[0], x - at[1]) < 8] = 1200
    return image


@pytest.fixture
def frames(tmp_path):
    """Five positions: phase at three slices, a stain at the middle one, unevenly lit; the last has no cells."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for p in range(5):
        for z in range(3):
            plane = 20000 + 3000 * stream(1, p, z).standard_normal(SIZE)
            iio.imwrite(folder / f"im_c000_z{z:03d}_t000_p{p:03d}.png", (plane * light()).astype(np.uint16))
        iio.imwrite(folder / f"im_c001_z001_t000_p{p:03d}.png", (cells(p, p == 4) * light()).astype(np.uint16))
    return str(folder)


def prep(tmp_path):
    return tmp_path / "prep"


def test_shading_of_known_light_is_found_by_both_methods(frames, tmp_path):
    for method, block in (("polynomial", 8), ("low-rank", 8)):
        settings = ShadingSettings(method=method, block=block, order=2, frames="all")
        found = measure_shading(frames, tmp_path / method, settings)
        assert found is not None
        assert set(found) == {PHASE, STAIN}
        assert np.abs(found[PHASE].field() / light() - 1).std() < 0.02
        assert Preprocessing.load(tmp_path / method).shading == found


def test_the_stain_is_measured_at_its_own_slice(frames, tmp_path):
    """One frame of each position is used: the first that the channel has."""
    found = measure_shading(frames, prep(tmp_path), ShadingSettings(method="polynomial", block=8, channels=(STAIN,)))
    assert found is not None
    images = [iio.imread(f"{frames}/im_c001_z001_t000_p{p:03d}.png") for p in range(5)]
    np.testing.assert_allclose(found[STAIN].field(), polynomial_shading(np.mean(images, axis=0), 8).field(), rtol=1e-5)


@pytest.mark.parametrize("level", ["dataset", "volume", "stack", "slice"])
@pytest.mark.parametrize("centre", ["median", "mean"])
def test_statistics_are_those_of_numpy_on_the_grid(level, centre, frames, tmp_path):
    settings = StatisticsSettings(level=level, centre=centre, spacing=4, channels=(PHASE,))
    found = measure_statistics(frames, prep(tmp_path), settings)
    assert found is not None
    volumes = [
        open_volume(frames, dataset=f"p{p:03d}").read(Box((0, 0, 0, 0, 0), (1, 1, 3, *SIZE)))[0, 0] for p in range(5)
    ]
    grids = np.stack(volumes)[:, :, 2::4, 2::4].astype(float)
    values = {"dataset": grids, "volume": grids[2], "stack": grids[2], "slice": grids[2, 1]}[level]
    group = found.group(PHASE, "p002", 0, 1)
    if centre == "median":
        expected = (np.median(values), np.subtract(*np.percentile(values, (75, 25))))
    else:
        expected = (values.mean(), values.std())
    assert (group.centre, group.spread) == pytest.approx(expected, rel=1e-6)
    assert found.typical(PHASE).spread > 0
    assert len(found.groups) == {"dataset": 1, "volume": 6, "stack": 6, "slice": 16}[level]


def test_a_normalised_channel_is_corrected_for_shading_too(frames, tmp_path):
    out = prep(tmp_path)
    measure_shading(frames, out, ShadingSettings(method="polynomial", block=8, frames="all"))
    measure_statistics(frames, out, StatisticsSettings(spacing=2, centre="mean"))
    seen = Preprocessing.load(out).view(open_volume(frames, dataset="p001"))
    plane = seen.read(Box((0, 0, 0, 0, 0), (1, 1, 3, *SIZE)))[0, 0].mean(axis=0)
    raw = open_volume(frames, dataset="p001").read(Box((0, 0, 0, 0, 0), (1, 1, 3, *SIZE)))[0, 0].mean(axis=0)
    middle, corner = (slice(16, 32), slice(20, 44)), (slice(0, 8), slice(0, 10))
    assert raw[middle].mean() / raw[corner].mean() > 1.3
    assert abs(plane[middle].mean() - plane[corner].mean()) < 0.2
    assert abs(plane.mean()) < 0.1


def test_percentiles_clip_before_the_spread_is_taken(frames, tmp_path):
    settings = StatisticsSettings(spacing=1, centre="mean", channels=(PHASE,), clip=(10, 90))
    found = measure_statistics(frames, prep(tmp_path), settings)
    assert found is not None
    group = found.typical(PHASE)
    seen = Preprocessing.load(prep(tmp_path)).view(open_volume(frames, dataset="p000"))
    whole = seen.read(Box((0, 0, 0, 0, 0), (1, 1, 3, *SIZE)))
    assert whole.max() == pytest.approx((group.high - group.centre) / group.spread, rel=1e-5)
    assert whole.min() == pytest.approx((group.low - group.centre) / group.spread, rel=1e-5)


def test_masks_are_those_of_each_frame_with_their_share_and_weights(frames, tmp_path):
    out = prep(tmp_path)
    found = make_masks(frames, out, MaskSettings(channels=(STAIN,), radius=2, weights=True))
    assert found is not None
    made = Preprocessing.load(out)
    image = iio.imread(f"{frames}/im_c001_z001_t000_p002.png")
    expected = foreground_mask(image, radius=2)
    mask = made.mask("p002")
    assert (mask.box, mask.meta.axes) == (Box.of((1, 1, 3, *SIZE)), tuple("tczyx"))
    assert present(mask).tolist() == [[[False, True, False]]]
    np.testing.assert_array_equal(mask.read(mask.box)[0, 0, 1], expected)
    weight = made.weight("p002")
    np.testing.assert_allclose(weight.read(weight.box)[0, 0, 1], border_weights(expected))
    assert found.fractions["p002", 0, 1] == pytest.approx(expected.mean(), rel=1e-4)
    with open(out / foreground.FRACTIONS, newline="") as handle:
        assert [(r["position"], r["slice_idx"]) for r in csv.DictReader(handle)] == [
            (f"p{p:03d}", "1") for p in range(5)
        ]


def test_one_threshold_of_the_data_set(frames, tmp_path):
    """Otsu of all positions together: it runs, agrees with scikit-image, and leaves the position without cells empty."""
    found = make_masks(frames, prep(tmp_path), MaskSettings(channels=(STAIN,), radius=0, scope="dataset"))
    assert found is not None
    assert found.fractions["p004", 0, 1] == 0
    images = [smoothed(iio.imread(f"{frames}/im_c001_z001_t000_p{p:03d}.png")) for p in range(5)]
    low, high = np.percentile([i[2::4, 2::4] for i in images], (1, 99))
    levels = np.rint(np.clip((np.stack([i[2::4, 2::4] for i in images]) - low) / (high - low), 0, 1) * 255).astype(
        np.uint8
    )
    level = low + 1.1 * threshold_otsu(levels) / 255 * (high - low)
    mask = Preprocessing.load(prep(tmp_path)).mask("p001")
    np.testing.assert_array_equal(mask.read(mask.box)[0, 0, 1] > 0, images[1] > level)
    alone = make_masks(frames, tmp_path / "alone", MaskSettings(channels=(STAIN,), radius=0))
    assert alone is not None
    assert alone.fractions["p004", 0, 1] > 0.1


@pytest.mark.parametrize("combine", ["any", "all"])
def test_channels_are_combined_where_all_have_frames(combine, frames, tmp_path):
    settings = MaskSettings(radius=0, combine=combine)
    found = make_masks(frames, prep(tmp_path), settings)
    assert found is not None
    assert {z for _, _, z in found.fractions} == {1}
    masks = [foreground_mask(iio.imread(f"{frames}/im_c{c:03d}_z001_t000_p000.png"), radius=0) for c in (0, 1)]
    expected = masks[0] | masks[1] if combine == "any" else masks[0] & masks[1]
    mask = Preprocessing.load(prep(tmp_path)).mask("p000")
    np.testing.assert_array_equal(mask.read(mask.box)[0, 0, 1] > 0, expected)


def test_masks_of_ones_own(frames, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for p in range(5):
        drawn = np.zeros(SIZE, np.uint8)
        drawn[8:24, 16:48] = 7 + p
        iio.imwrite(own / f"im_c000_z001_t000_p{p:03d}.png", drawn)
    set_resize(frames, prep(tmp_path), ResizeSettings(yx=0.5))
    found = make_masks(frames, prep(tmp_path), MaskSettings(masks=str(own)))
    assert found is not None
    mask = Preprocessing.load(prep(tmp_path)).mask("p003")
    expected = np.zeros((24, 32))
    expected[4:12, 8:24] = 1
    np.testing.assert_array_equal(mask.read(mask.box)[0, 0, 1], expected)
    (own / "im_c000_z001_t000_p002.png").unlink()
    with pytest.raises(UserError, match="have no positions p002; add them"):
        make_masks(frames, tmp_path / "other", MaskSettings(masks=str(own)))


def test_statistics_on_foreground(frames, tmp_path):
    out = prep(tmp_path)
    with pytest.raises(UserError, match="need masks, and there are none; make them with 'lamella prep masks'"):
        measure_statistics(frames, out, StatisticsSettings(foreground=True))
    assert not out.exists()
    make_masks(frames, out, MaskSettings(channels=(STAIN,), radius=2, scope="dataset"))
    found = measure_statistics(frames, out, StatisticsSettings(foreground=True, spacing=1, centre="mean"))
    assert found is not None
    values = []
    for p in range(5):
        mask = Preprocessing.load(out).mask(f"p{p:03d}")
        values.append(iio.imread(f"{frames}/im_c001_z001_t000_p{p:03d}.png")[mask.read(mask.box)[0, 0, 1] > 0])
    assert found.typical(STAIN).centre == pytest.approx(np.concatenate(values).mean(), rel=1e-5)
    # the phase has slices without a mask: that of the nearest slice counts
    assert found.typical(PHASE).centre > 0
    with pytest.raises(UserError, match="the masks leave no frame with enough foreground"):
        measure_statistics(frames, out, StatisticsSettings(foreground=True, min_fraction=0.9), overwrite=True)


def test_tiles_on_disk_are_those_of_the_rule(frames, tmp_path):
    out = prep(tmp_path)
    make_masks(frames, out, MaskSettings(channels=(STAIN,), radius=2, scope="dataset"))
    measure_statistics(frames, out, StatisticsSettings(spacing=2))
    settings = TileSettings(size=(32, 32), step=(16, 16), depths={"0": 3}, min_fraction=0.05)
    tiles = make_tiles(frames, out, settings)
    assert tiles
    made = Preprocessing.load(out)
    rule = tile_rule(settings)
    assert made.tiles == rule
    drawn = [
        (f"p{p:03d}", t, box, f)
        for p in range(5)
        for t, box, f in places(
            made.view(open_volume(frames, dataset=f"p{p:03d}")), rule, {0: 3, 1: 1}, made.mask(f"p{p:03d}")
        )
    ]
    assert [(t.position, t.time, t.box, t.fraction) for t in tiles] == drawn
    assert all(t.fraction >= 0.05 for t in tiles)
    assert {t.position for t in tiles} <= {"p000", "p001", "p002", "p003"}
    stains, phases = (open_volume(out / "tiles.h5", dataset=n) for n in ("c001", "c000"))
    assert (stains.box.shape, phases.box.shape) == ((len(tiles), 1, 32, 32), (len(tiles), 3, 32, 32))
    view = made.view(open_volume(frames, dataset=tiles[-1].position))
    (_, y, x), last = tiles[-1].box.start, len(tiles) - 1
    one = Box((last, 0, 0, 0), (last + 1, 1, 32, 32))
    np.testing.assert_array_equal(
        stains.read(one)[0, 0], view.read(Box((0, 1, 1, y, x), (1, 2, 2, y + 32, x + 32)))[0, 0, 0]
    )
    with open(out / "tiles.csv", newline="") as handle:
        assert next(csv.DictReader(handle))["tile"] == tiles[0].name


CONFIG = {
    "shading": {"method": "polynomial", "block": 8},
    "resize": {"yx": 0.5},
    "masks": {"channels": [1], "radius": 1, "weights": True, "scope": "dataset"},
    "statistics": {"level": "volume", "spacing": 2},
    "tiles": {"size": [16, 16]},
}


def config(frames, out):
    return PrepConfig.load({"source": frames, "out": str(out), **CONFIG})


def done(asked, **options):
    return list(run_prep(asked, **options))


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(stop_at, frames, tmp_path, monkeypatch):
    stages = ["shading", "resize", "masks", "statistics", "tiles"]
    assert done(config(frames, tmp_path / "a")) == [(s, True) for s in stages]
    calls = []
    make = foreground.Make._make

    def stops(self, position, time, z):
        calls.append(position)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return make(self, position, time, z)

    alone = Executor(workers=1, retries=0)
    with monkeypatch.context() as patch:
        patch.setattr(foreground.Make, "_make", stops)
        with pytest.raises(UserError, match="stopped by KeyboardInterrupt"):
            done(config(frames, tmp_path / "b"), executor=alone)
    assert not (tmp_path / "b" / "masks.json").exists()
    again = done(config(frames, tmp_path / "b"), executor=Executor(workers=3))
    assert again == [("shading", False), ("resize", False), ("masks", True), ("statistics", True), ("tiles", True)]
    first, second = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b")
    assert set(first) == set(second)
    # the paths of the folder stand in no file but those that name their own
    assert {k for k in first if first[k] != second[k]} <= {"tiles.h5"}
    assert not list((tmp_path / "b").glob(".*"))
    assert done(config(frames, tmp_path / "b")) == [(s, False) for s in stages]


def test_other_settings_are_refused_and_replacing_removes_what_builds_on_them(frames, tmp_path):
    out = prep(tmp_path)
    measure_shading(frames, out, ShadingSettings(method="polynomial", block=8))
    measure_statistics(frames, out)
    other = ShadingSettings(method="polynomial", block=16)
    with pytest.raises(UserError, match=r"shading\.json was measured otherwise \(settings\.block was 8, is 16\)"):
        measure_shading(frames, out, other)
    assert measure_shading(frames, out, ShadingSettings(method="polynomial", block=8)) is None
    assert measure_shading(frames, out, other, overwrite=True)
    assert not (out / "statistics.json").exists()
    record = json.loads((out / "shading.json").read_text())
    assert record["plan"]["settings"]["block"] == 16
    assert record["provenance"]["versions"]["lamella"]


def write(frames, name, array):
    iio.imwrite(f"{frames}/{name}", array)


def remove(frames, name):
    os.unlink(f"{frames}/{name}")


STAIN_OF_2 = "im_c001_z001_t000_p002.png"


@pytest.mark.parametrize(
    ("spoil", "act", "words"),
    [
        (
            lambda f: remove(f, STAIN_OF_2),
            measure_statistics,
            "channel 1 has no frames at positions p002; choose the positions",
        ),
        (lambda f: remove(f, STAIN_OF_2), measure_shading, "channel 1 has no frames at positions p002"),
        (
            lambda f: write(f, STAIN_OF_2, np.zeros((9, 9), np.uint16)),
            measure_statistics,
            rf"{STAIN_OF_2} \(9 by 9 uint16\)",
        ),
        (
            lambda f: write(f, STAIN_OF_2, np.full(SIZE, 300, np.uint16)),
            lambda f, o: measure_statistics(f, o, StatisticsSettings(level="slice")),
            "interquartile range of position p002, channel 1, slice 1, time 0 is 0 .*about 300.* leave constant frames out",
        ),
        (
            lambda f: [write(f, f"im_c001_z001_t000_p{p:03d}.png", np.full(SIZE, 300, np.uint16)) for p in range(5)],
            lambda f, o: make_masks(f, o, MaskSettings(channels=(STAIN,))),
            "masks of c001 leave nothing: no pixel of 5 frames is foreground",
        ),
        (
            lambda f: None,
            lambda f, o: make_tiles(f, o, TileSettings(size=(16, 16), min_fraction=0.1)),
            "asks for foreground, and there are no masks",
        ),
        (
            lambda f: None,
            lambda f, o: make_tiles(f, o, TileSettings(size=(16, 16), depths={"0": 2})),
            "depth 2 of channel 0 is even",
        ),
        (
            lambda f: None,
            lambda f, o: make_tiles(f, o, TileSettings(size=(16, 16), depths={"0": 5})),
            "depth 5 is more than the 3 slices",
        ),
        (
            lambda f: None,
            lambda f, o: make_tiles(f, o, TileSettings(size=(16, 16), depth=3)),
            "none has all channels at the slices it needs",
        ),
        (
            lambda f: None,
            lambda f, o: measure_statistics(f, o, select=Selection(positions=("p009",))),
            "positions p009 are not in",
        ),
        (
            lambda f: None,
            lambda f, o: measure_statistics(f, o, select=Selection(slices=(9,))),
            "channel 0 has no frames",
        ),
        (
            lambda f: None,
            lambda f, o: measure_shading(f, o, ShadingSettings(channels=("GFP",))),
            "channel 'GFP' is not in .* which has 0, 1; choose",
        ),
        (
            lambda f: None,
            measure_shading,
            r"images of 48 by 64 px have 3 by 4 blocks",
        ),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(spoil, act, words, frames, tmp_path):
    spoil(frames)
    with pytest.raises(UserError, match=words):
        act(frames, prep(tmp_path))
    assert not [p for p in tmp_path.rglob("*.json") if p.name != "plan.json"]


def test_frames_of_other_sizes_at_other_positions_are_named_for_the_shading(frames, tmp_path):
    for p in range(1, 2):
        for name in [f"im_c000_z{z:03d}_t000_p{p:03d}.png" for z in range(3)] + [f"im_c001_z001_t000_p{p:03d}.png"]:
            write(frames, name, np.ones((40, 64), np.uint16))
    with pytest.raises(UserError, match=r"frames of p000 are 48 by 64 px, but not those of p001 \(40 by 64\)"):
        measure_shading(frames, prep(tmp_path), ShadingSettings(block=8))


def test_nans_are_named(tmp_path):
    (tmp_path / "f").mkdir()
    for p in range(2):
        image = np.ones((16, 16), np.float32)
        image[3, 4] = np.nan if p else 2
        tifffile.imwrite(tmp_path / "f" / f"im_c000_z002_t000_p{p:03d}.tif", image)
    with pytest.raises(UserError, match="p001 holds NaN or infinity in channel 0, slice 2, time 0"):
        measure_statistics(str(tmp_path / "f"), prep(tmp_path), StatisticsSettings(spacing=1, centre="mean"))


def test_a_config_refuses_keys_that_drifted(tmp_path):
    (tmp_path / "prep.yaml").write_text(yaml.safe_dump({"source": "f", "out": "o", "normalize": {"level": "dataset"}}))
    with pytest.raises(UserError, match="unknown key 'normalize'"):
        read_config(tmp_path / "prep.yaml")
    for key, near in (("mask_type", "known keys are"), ("chanels", "did you mean 'channels'")):
        with pytest.raises(UserError, match=near):
            PrepConfig.load({"source": "f", "out": "o", "masks": {key: 1}})
    with pytest.raises(UserError, match="the config names no stage"):
        done(PrepConfig(source="f", out="o"))
    with pytest.raises(UserError, match="must be two percentiles"):
        StatisticsSettings.load({"clip": (98, 2)})
