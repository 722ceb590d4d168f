"""Shading that is known is found again; polynomials are exact on polynomials; objects hardly move the low-rank estimate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.ops.shading import Shading, block_medians, low_rank_shading, polynomial_shading, residual

SIZE = (256, 320)


def known(kind):
    """Shading (y, x) of mean 1: the polynomial that the first method fits, or a Gaussian as lenses make it."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    v, u = (2 * y + 1) / SIZE[0] - 1, (2 * x + 1) / SIZE[1] - 1
    if kind == "polynomial":
        field = 1 - 0.25 * v**2 - 0.2 * u**2 + 0.1 * u * v + 0.05 * v
    else:
        field = np.exp(-((u - 0.2) ** 2 + (v + 0.1) ** 2) / (2 * 1.1**2))
    return field / field.mean()


def cells(count, num_cells, seed=0):
    """Bright cells on an even ground, as photons, each image of its own brightness."""
    rng = stream(seed, "cells")
    for _ in range(count):
        points = np.zeros(SIZE)
        np.add.at(points, tuple(rng.integers(0, n, num_cells) for n in SIZE), rng.uniform(0.5, 2, num_cells))
        yield (400 + 600 * 100 * gaussian_filter(points, 4)) * rng.uniform(0.7, 1.4)


def shaded(field, count=20, num_cells=40, offset=0.0):
    rng = stream(1, "photons")
    return [rng.poisson(image * field + offset).astype(np.uint16) for image in cells(count, num_cells)]


@pytest.mark.parametrize("num_cells", [20, 120])  # a tenth and half of the field covered
@pytest.mark.parametrize("kind", ["polynomial", "gaussian"])
def test_less_than_one_percent_is_left_by_the_low_rank_estimate(kind, num_cells):
    field = known(kind)
    images = shaded(field, num_cells=num_cells)
    found = low_rank_shading(np.stack([block_medians(i, 16) for i in images]), SIZE)
    assert residual(np.ones(SIZE), field) > 0.1
    assert residual(found.field(), field) < 0.01
    mean = polynomial_shading(np.mean(images, axis=0))
    assert residual(found.field(), field) < residual(mean.field(), field) < 0.04


def test_the_polynomial_is_exact_on_polynomials():
    field = known("polynomial")
    found = polynomial_shading(1000 * field, block=8)
    np.testing.assert_allclose(found.field(), field, atol=3e-4)  # a block's median is not quite its middle
    assert np.size(found.coefficients) == 9
    assert found.field().mean() == pytest.approx(1, abs=1e-6)


def test_the_polynomial_agrees_with_a_fit_by_numpy():
    mean = np.mean(shaded(known("gaussian"), 5), axis=0)
    medians = np.array(
        [[np.median(mean[y : y + 32, x : x + 32]) for x in range(0, 320, 32)] for y in range(0, 256, 32)]
    )
    np.testing.assert_allclose(block_medians(mean, 32), medians)
    y, x = np.mgrid[:8, :10] * 32 + 15.5
    columns = [(y**i * x**j).ravel() for i in range(3) for j in range(3)]
    fit, *_ = np.linalg.lstsq(np.stack(columns, 1), medians.ravel(), rcond=None)
    y, x = np.mgrid[:256, :320].astype(float)
    expected = sum(c * y**i * x**j for c, (i, j) in zip(fit, np.ndindex(3, 3), strict=True))
    np.testing.assert_allclose(polynomial_shading(mean).field(), expected / expected.mean(), rtol=1e-5)


def test_a_tile_is_corrected_as_in_the_whole_and_correcting_undoes_shading():
    field = known("gaussian")
    image = next(cells(1, 40))
    found = Shading(shape=SIZE, coefficients=polynomial_shading(field, 8, 6).coefficients, offset=100.0)
    whole = found.correct(image * field + 100)
    np.testing.assert_allclose(whole, image + 100, rtol=2e-3)
    np.testing.assert_allclose(
        found.correct((image * field + 100)[30:50, 7:99], (30, 7)), whole[30:50, 7:99], rtol=1e-6
    )


def test_an_offset_that_is_known_is_taken_off_before():
    field = known("gaussian")
    medians = np.stack([block_medians(i, 16) for i in shaded(field, offset=300)])
    assert residual(low_rank_shading(medians, SIZE, offset=300.0).field(), field) < 0.01
    assert residual(low_rank_shading(medians, SIZE).field(), field) > 0.03


def test_it_travels_as_plain_values():
    found = polynomial_shading(known("gaussian"))
    assert Shading.load(found.to_dict()) == found


def test_what_cannot_be_fitted_is_told():
    with pytest.raises(UserError, match="have 2 by 2 blocks of 32 px; a polynomial of order 2 needs 3 by 3"):
        polynomial_shading(np.ones((64, 50)))
    with pytest.raises(UserError, match=r"the fitted shading runs from .* but light is above 0"):
        polynomial_shading(np.linspace(-1, 2, 128)[:, None] * np.ones(128))
    with pytest.raises(UserError, match="at least 3 images, there are 2"):
        low_rank_shading(np.ones((2, 16, 16)), (256, 256))
    with pytest.raises(UserError, match="most images are dark"):
        low_rank_shading(np.zeros((5, 16, 16)), (256, 256))
