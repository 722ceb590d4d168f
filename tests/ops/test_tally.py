"""Tallies add up to what numpy says of all values at once."""

import numpy as np
import pytest

from lamella.ops.tally import CORRELATION_BINS, PIXEL_BINS, Tally


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    v = np.clip(rng.normal(0.3, 0.2, (40, 5000)), -1, 1)
    v[:3] = np.nan
    return v


def test_pieces_add_up_to_the_whole(values):
    whole = Tally.of(values, CORRELATION_BINS)
    pieces = Tally.empty(CORRELATION_BINS)
    for row in values[::-1]:
        pieces = pieces + Tally.of(row, CORRELATION_BINS)
    assert pieces.summary() == pytest.approx(whole.summary())
    np.testing.assert_array_equal(pieces.counts, whole.counts)


def test_equals_numpy(values):
    tally, known = Tally.of(values, CORRELATION_BINS), values[np.isfinite(values)]
    assert tally.mean == pytest.approx(known.mean())
    assert tally.variance == pytest.approx(known.var())
    assert (tally.count, tally.dropped) == (known.size, 15000)
    for q in (1, 5, 50, 95, 99):
        assert tally.percentile(q) == pytest.approx(np.percentile(known, q), abs=0.003)


def test_percentiles_of_few_values():
    tally = Tally.of(np.array([0.0, 100.0, 100000000.0]), PIXEL_BINS)
    assert tally.percentile(1) == pytest.approx(0, abs=0.02)
    assert tally.percentile(100) <= 1e8
    assert tally.percentile(50) == pytest.approx(100, rel=0.08)
    assert np.isnan(Tally.empty(PIXEL_BINS).percentile(50))
    assert Tally.of(np.full(9, 0.25), CORRELATION_BINS).percentile(5) == 0.25


def test_packing_comes_back(values):
    tally = Tally.of(values, CORRELATION_BINS)
    again = Tally.unpack(tally.pack(), CORRELATION_BINS)
    assert again.summary() == tally.summary()
