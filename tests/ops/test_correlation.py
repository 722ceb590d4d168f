"""Laws of chunked correlation, and hand-computed answers."""

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.correlation import chunk_origins, chunked_pearson


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.integers(1, 255, (70, 100)).astype(np.uint8)
    return a, np.clip(a * 0.5 + rng.normal(60, 30, a.shape), 1, 255).astype(np.uint8)


def test_equals_numpy_chunk_by_chunk(pair):
    a, b = pair
    r = chunked_pearson(a, b, 16, border=3)
    assert r.shape == (4, 5)
    for i, y in enumerate(chunk_origins(70, 16, 3)):
        for j, x in enumerate(chunk_origins(100, 16, 3)):
            p, q = a[y : y + 16, x : x + 16], b[y : y + 16, x : x + 16]
            assert r[i, j] == pytest.approx(np.corrcoef(p.ravel(), q.ravel())[0, 1], abs=1e-12)


def test_self_is_one_symmetric_and_blind_to_gain(pair):
    a, b = pair
    np.testing.assert_allclose(chunked_pearson(a, a, 12), 1)
    np.testing.assert_allclose(chunked_pearson(a, b, 12), chunked_pearson(b, a, 12))
    np.testing.assert_allclose(chunked_pearson(a * 3.0 - 7, b, 12), chunked_pearson(a, b, 12))


def test_hand_computed():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    b = np.array([[1.0, 3.0], [2.0, 4.0]])
    assert chunked_pearson(a, b, 2).item() == pytest.approx(0.8)


def test_more_than_four_per_cent_missing_drops_the_chunk(pair):
    a, b = (v[:10, :20] for v in pair)
    valid = np.ones(a.shape, bool)
    valid[0, :4] = False  # 4 of the first chunk's 100 pixels: kept
    valid[0, 10:15] = False  # 5 of the second's: dropped
    r = chunked_pearson(a, b, 10, valid)
    assert np.isfinite(r[0, 0])
    assert np.isnan(r[0, 1])


def test_missing_pixels_do_not_count(pair):
    a, b = pair
    valid = np.random.default_rng(1).random(a.shape) > 0.02
    spoiled = np.where(valid, a, 0)
    np.testing.assert_allclose(chunked_pearson(a, b, 35, valid), chunked_pearson(spoiled, b, 35, valid))


def test_flat_chunks_are_zero():
    a = np.full((8, 8), 0.1, np.float32)
    assert (chunked_pearson(a, np.random.default_rng(0).random((8, 8)), 4) == 0).all()


def test_leading_axes_are_kept(pair):
    a, b = pair
    r = chunked_pearson(np.stack([a, b]), np.stack([b, b]), 10)
    np.testing.assert_allclose(r[0], chunked_pearson(a, b, 10))
    np.testing.assert_allclose(r[1], 1)


def test_image_smaller_than_a_chunk_gives_none(pair):
    a, b = pair
    assert chunked_pearson(a[:5], b[:5], 8).size == 0


def test_wrong_input_is_named(pair):
    a, b = pair
    with pytest.raises(UserError, match="one shape"):
        chunked_pearson(a, b[1:], 8)
    with pytest.raises(UserError, match="2 pixels"):
        chunked_pearson(a, b, 1)
