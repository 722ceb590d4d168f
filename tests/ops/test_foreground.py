"""Weight maps against the formula computed in full, and where it has nothing to say: one object, or none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from lamella.ops.foreground import border_weights, class_balance


def boxes(ndim):
    labels = np.zeros((24, 60, 70)[-ndim:], np.int32)
    for number, corner in zip((3, 5, 9), ((5, 8, 8), (6, 12, 25), (12, 30, 40)), strict=True):
        labels[tuple(slice(c, c + 12) for c in corner[-ndim:])] = number
    return labels


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("spacing", [None, 0.5])
def test_the_map_is_that_of_the_paper(ndim, spacing):
    labels = boxes(ndim)
    steps = None if spacing is None else (*((1.0,) * (ndim - 1)), spacing)
    distances = np.sort([distance_transform_edt(labels != n, sampling=steps) for n in (3, 5, 9)], axis=0)
    gap = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 5**2))
    share = (labels > 0).mean()
    expected = np.where(labels > 0, 0.5 / share, 0.5 / (1 - share) + gap)
    np.testing.assert_allclose(border_weights(labels, 10.0, 5.0, steps), expected, atol=1e-5)


def test_a_mask_is_cut_into_its_connected_parts():
    labels = boxes(2)
    assert len(np.unique(labels)) == 4
    np.testing.assert_allclose(border_weights(labels > 0), border_weights(labels))


@pytest.mark.parametrize("ndim", [2, 3])
def test_one_object_has_the_class_balance_alone(ndim):
    labels = np.where(boxes(ndim) == 5, 5, 0)
    weights = border_weights(labels)
    assert np.isfinite(weights).all()
    np.testing.assert_array_equal(weights, class_balance(labels > 0))
    assert weights.mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_or_everything_has_weight_one(value):
    np.testing.assert_array_equal(border_weights(np.full((9, 9), value)), 1)
