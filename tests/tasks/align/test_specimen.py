"""The synthetic specimen keeps its promises: the truth is true, the tissue changes as 40 nm do, a seed reproduces it."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.ops.correlation import chunked_pearson
from lamella.ops.noise import smooth_noise
from lamella.tasks.align.specimen import Specimen, SpecimenConfig, make_specimen
from lamella.tasks.align.specimen.disturb import crack, fold, smooth_motion, ternary

SMALL = SpecimenConfig(num_sections=6, size=(160, 208))
PLAIN = SpecimenConfig(num_sections=2, size=(160, 208), num_cracks=0, num_folds=0, num_blackouts=0, num_lost=0)


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    return make_specimen(SMALL, seed=3)


def sample(image: np.ndarray, field: np.ndarray, order: int = 1) -> np.ndarray:
    grid = np.mgrid[: image.shape[0], : image.shape[1]] + field
    return ndi.map_coordinates(image.astype(np.float32), grid, order=order, mode="nearest")


def test_disturbed_pulled_by_the_truth_is_clean(specimen):
    for z in range(SMALL.num_sections):
        if specimen.spoiled.get(z) == "lost":
            continue
        pulled = sample(specimen.disturbed[z], specimen.fields[z])
        shifted = sample(specimen.disturbed[z], specimen.fields[z] + 1.5)
        valid = ~specimen.hidden[z]
        right, wrong = (np.nanmean(chunked_pearson(v, specimen.clean[z], 32, valid)) for v in (pulled, shifted))
        assert right > 0.6
        assert right > wrong + 0.05


@pytest.mark.parametrize("tear", [None, crack, fold])
def test_truth_and_inverse_undo_each_other(tear):
    rng = stream(1, "test")
    motion = smooth_motion(rng, (120, 150), np.array([5.0, -3.0]), 0.02, 2.0, 24.0)
    if tear:
        motion = tear(rng, motion, 10.0)
    y, x = np.mgrid[:120, :150] + motion.truth
    back = np.stack([ndi.map_coordinates(c, (y, x), order=1, mode="nearest") for c in motion.inverse])
    error = np.hypot(*(motion.truth + back))
    inside = (y > 1) & (y < 118) & (x > 1) & (x < 148) & ~motion.hidden
    # Linear interpolation across the seam itself is wrong; that concerns a pixel on either side.
    assert (error[inside] < 0.05).mean() > (0.97 if tear else 0.9999)
    assert np.median(error[inside]) < 0.01


def test_crack_opens_and_fold_swallows():
    rng = stream(2, "test")
    still = smooth_motion(rng, (100, 100), np.zeros(2), 0.0, 0.0, 24.0)
    assert not still.truth.any()
    opened, closed = crack(rng, still, 12.0), fold(rng, still, 12.0)
    assert [m.any() for m in (opened.gap, opened.hidden, opened.band)] == [True, False, False]
    assert [m.any() for m in (closed.gap, closed.hidden, closed.band)] == [False, True, True]
    assert np.abs(opened.truth).max() == pytest.approx(6, abs=0.01)


def test_sections_are_spoiled_as_asked(specimen):
    assert sorted(specimen.spoiled.values()) == ["blackout", "crack", "fold", "lost"]
    where = {kind: z for z, kind in specimen.spoiled.items()}
    assert not specimen.disturbed[where["lost"]].any()
    assert specimen.hidden[where["lost"]].all()
    missing = specimen.disturbed == 0
    assert 0.005 < missing[where["blackout"]].mean() < 0.2
    assert not missing[[z for z in range(6) if specimen.spoiled.get(z) not in ("lost", "blackout")]].any()
    assert (specimen.defects[missing] == 2).all()
    assert specimen.defects[where["crack"]].max() == specimen.defects[where["fold"]].max() == 2
    assert not specimen.defects[0].any()
    assert not specimen.fields[0].any()


def test_neighbours_change_as_40_nm_do():
    clean = make_specimen(PLAIN.model_copy(update={"size": (320, 320)}), seed=3).clean
    r = np.nanmean(chunked_pearson(clean[1:], clean[:-1], 32))
    assert 0.3 < r < 0.5
    unrelated = np.nanmean(chunked_pearson(clean[1:], clean[:-1, ::-1, ::-1], 32))
    assert abs(unrelated) < 0.1


def test_same_seed_same_specimen(specimen):
    again, other = make_specimen(SMALL, seed=3), make_specimen(PLAIN, seed=4)
    for name in ("clean", "disturbed", "fields", "defects", "hidden"):
        np.testing.assert_array_equal(getattr(again, name), getattr(specimen, name))
    assert other.clean.shape == (2, 160, 208)
    assert (other.clean[0] != specimen.clean[0]).any()


def test_ternary_by_hand():
    inside = np.zeros((1, 40), bool)
    inside[0, 0] = True
    assert ternary(inside)[0].tolist() == [2] + [1] * 16 + [0] * 23


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.6, 9.0, 30.0])
def test_noise_has_unit_variance(scale):
    noise = smooth_noise(stream(0, "noise"), (400, 500), scale)
    assert noise.shape == (400, 500)
    assert noise.std() == pytest.approx(1, abs=0.25 if scale == 30 else 0.12)


def test_too_many_defects_are_refused():
    with pytest.raises(UserError, match="do not fit in 4"):
        SpecimenConfig.load({"num_sections": 4})
    with pytest.raises(UserError, match="too small"):
        SpecimenConfig.load({"size": [32, 512]})
