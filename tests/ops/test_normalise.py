"""Laws of normalisers: missing stays missing, dark tissue stays tissue, a tile with its context equals the whole."""

import pickle

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from lamella.core.errors import UserError
from lamella.ops.normalise import FLOOR, Local, MinMax, NormaliserConfig, Percentile, Plain, Rank, ZScore

CONFIGS = [
    Rank(radius=7),
    Rank(radius=7, range=(10, 200)),
    MinMax(),
    MinMax(range=(10, 200)),
    Percentile(),
    ZScore(),
    ZScore(mean=90, std=40),
    Local(sigma=3),
]
EVERY = [*CONFIGS, Plain()]


def section(dtype=np.uint8, shape=(61, 83), seed=0):
    """Blobs of 1 to 255 with a missing patch and a missing rim; floats are scaled to at most 1."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.uniform(0, 1, (shape[0] // 8 + 1, shape[1] // 8 + 1)), np.ones((8, 8)))[: shape[0], : shape[1]]
    values = np.rint(1 + 254 * (0.7 * coarse + 0.3 * rng.uniform(0, 1, shape)))
    values[20:35, 30:52] = 0
    values[:4] = 0
    return values.astype(dtype) if np.dtype(dtype).kind in "ui" else (values / 255).astype(dtype)


@pytest.mark.parametrize("config", EVERY, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_missing_stays_missing_and_tissue_stays_tissue(config, dtype):
    values = section(dtype)
    before = values.copy()
    grey = config.build()(values)
    assert grey.dtype == np.float32
    assert grey.shape == values.shape
    assert np.array_equal(grey == 0, values == 0)
    assert grey[values != 0].min() >= np.float32(FLOOR)
    assert grey.max() <= 1
    assert np.array_equal(values, before)


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_a_section_without_tissue_stays_missing(config):
    assert not config.build()(np.zeros((9, 9), np.uint16)).any()


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_a_constant_section_becomes_constant_tissue(config):
    grey = config.build()(np.full((30, 40), 93, np.uint8))
    assert np.ptp(grey) < 1e-4  # single precision, divided by the least deviation
    assert grey.min() >= np.float32(FLOOR)


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_missing_voxels_have_no_influence(config):
    values = section()
    whole = config.build()(values)
    wider = np.pad(values, 50)
    assert np.array_equal(config.build()(wider)[50:-50, 50:-50], whole)


@pytest.mark.parametrize("config", [c for c in EVERY if c.build().context(np.uint8) is not None], ids=str)
def test_a_tile_with_its_context_equals_the_whole(config):
    normaliser, values = config.build(), section(shape=(90, 110))
    context = normaliser.context(np.uint8)
    whole = normaliser(values)
    for y0, y1, x0, x1 in [(0, 40, 0, 50), (37, 61, 30, 71), (50, 90, 70, 110)]:
        a, b = max(y0 - context, 0), max(x0 - context, 0)
        tile = normaliser(values[a : y1 + context, b : x1 + context])
        assert np.array_equal(tile[y0 - a : y1 - a, x0 - b : x1 - b], whole[y0:y1, x0:x1])


@pytest.mark.parametrize("config", EVERY, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_with_its_statistics_measured_a_tile_equals_the_whole(config, dtype):
    values = section(dtype, shape=(50, 60))
    whole, normaliser = config.build()(values), config.build().measured(values)
    assert np.array_equal(normaliser(values), whole)
    context = normaliser.context(dtype)
    a, b = max(24 - context, 0), max(20 - context, 0)
    tile = normaliser(values[a : 40 + context, b : 55 + context])
    assert np.array_equal(tile[24 - a : 40 - a, 20 - b : 55 - b], whole[24:40, 20:55])


def test_one_pixel_less_context_is_not_enough_for_ranks():
    normaliser, values = Rank(radius=7).build(), section(shape=(60, 60), seed=3)
    short = normaliser(values[4:, 14:])[:, 6:]
    assert not np.array_equal(short, normaliser(values)[4:, 20:])


def test_whole_section_statistics_declare_it():
    assert Rank(radius=7).build().context(np.uint16) is None
    assert Rank(radius=7, range=(0, 4000)).build().context(np.uint16) == 7
    assert all(c.build().context(np.uint8) is None for c in (MinMax(), Percentile(), ZScore()))


def test_rank_counts_tissue_no_brighter():
    values = np.array([[10, 20, 30], [0, 40, 50], [60, 70, 80]], np.uint8)
    grey = Rank(radius=1).build()(values)  # the disk of radius 1 is a cross of five
    assert grey[1, 1] == pytest.approx((2 / 4 * 255 // 1) / 255)  # 20, 40 of 20, 40, 50, 70; the missing one left out
    assert grey[0, 0] == pytest.approx((1 / 2 * 255 // 1) / 255)  # 10 of 10, 20
    assert grey[2, 2] == 1


def test_rank_is_blind_to_monotone_changes():
    values = section()
    curve = np.concatenate([[0], np.sort(np.random.default_rng(1).choice(60000, 255, replace=False) + 1)])
    normaliser = Rank(radius=9).build()
    brighter = np.where(values, values // 2 + 100, 0).astype(np.uint8)
    assert np.array_equal(normaliser(values // 2 * 2), normaliser(np.where(values // 2, brighter, 0).astype(np.uint8)))
    assert np.abs(normaliser(curve[values].astype(np.uint16)) - normaliser(values)).max() < 0.05


def test_rank_radius_follows_the_mip_unless_given():
    assert [Rank().build(m).radius for m in (0, 2, 5)] == [256, 85, 42]
    assert Rank(radius=12).build(5).radius == 12
    with pytest.raises(UserError, match="radius"):
        Rank().build()


def test_linear_normalisers_by_hand():
    values = np.array([[0, 100, 150, 200]], np.uint16)
    assert MinMax().build()(values)[0].tolist() == pytest.approx([0, FLOOR, 0.5, 1])
    assert MinMax(range=(0, 400)).build()(values)[0].tolist() == pytest.approx([0, 0.25, 0.375, 0.5])
    assert ZScore(span=2, mean=150, std=50).build()(values)[0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75])
    assert Plain().build()(np.array([[0, 51]], np.uint8))[0].tolist() == pytest.approx([0, 0.2])


def test_percentile_ignores_specks():
    values = section()
    specks = values.astype(np.uint16)
    specks[50, 3] = 60000
    normaliser = Percentile(low=2, high=98).build()
    change = np.abs(normaliser(specks) - normaliser(values.astype(np.uint16)))
    change[50, 3] = 0
    assert change.max() < 0.02


def test_local_evens_out_a_gradient():
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 200)[None] + rng.normal(0, 10, (120, 200))
    grey = Local(sigma=8).build()(np.rint(ramp).astype(np.uint8))
    assert abs(grey[:, 40:70].mean() - grey[:, 130:160].mean()) < 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_local_is_nearly_what_a_gaussian_window_gives(dtype):
    rng = np.random.default_rng(1)
    values = np.rint(rng.normal(120, 30, (150, 170)) + np.linspace(-30, 30, 170)).clip(1, 255).astype(dtype)
    values *= dtype(200 if dtype == np.uint16 else 1)  # of which the least deviation is little
    values[40:60, 30:80] = 0

    def blur(x):
        return ndimage.gaussian_filter(x, 8, mode="constant")

    whole, tissue = values.astype(float), values != 0
    weight = blur(tissue.astype(float))
    mean = blur(whole) / weight
    expected = 0.5 + (whole - mean) / np.sqrt(blur(whole**2) / weight - mean**2) / 6
    off = np.abs(Local(sigma=8).build()(values) - expected.clip(FLOOR, 1))[tissue]
    assert off.mean() < 0.005
    assert off.max() < 0.05


def test_a_disk_wider_than_the_section_works():
    values = section(shape=(40, 40))
    assert np.array_equal(Rank(radius=60).build()(values), Rank(radius=200).build()(values))


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_unusable_sections_are_refused(config):
    normaliser = config.build()
    with pytest.raises(UserError, match="one section"):
        normaliser(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(UserError, match="bool"):
        normaliser(np.zeros((4, 4), bool))
    with pytest.raises(UserError, match="NaN"):
        normaliser(np.array([[0.5, np.nan]], np.float32))


def test_none_refuses_floats_outside_its_range():
    with pytest.raises(UserError, match="minmax"):
        Plain().build()(np.array([[0.0, 7.5]], np.float32))


def test_configs_are_told_apart_by_kind_and_checked():
    union = TypeAdapter(NormaliserConfig)
    for config in EVERY:
        assert union.validate_python(config.to_dict()) == config
        assert pickle.loads(pickle.dumps(config.build())) == config.build()
    for bad in ({"kind": "zscore", "mean": 1}, {"kind": "minmax", "range": [5, 5]}, {"kind": "percentile", "low": 99}):
        with pytest.raises(ValidationError):
            union.validate_python(bad)
