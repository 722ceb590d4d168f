"""Affinities by hand, by definition, and at the edge of the image."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.affinities import affinities, check_offsets, nearest


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [((5, 7), [(-1, 0), (0, -1), (2, -3), (0, 9)]), ((3, 4, 5), [*nearest(3), (1, 0, 2), (0, -2, 1)])],
)
def test_each_affinity_is_that_of_its_two_voxels(shape, offsets):
    labels = np.random.default_rng(0).integers(-1, 3, shape)
    found, valid = affinities(labels, offsets)
    for n, offset in enumerate(offsets):
        for v in product(*map(range, shape)):
            w = tuple(a + b for a, b in zip(v, offset, strict=True))
            inside = all(0 <= a < size for a, size in zip(w, shape, strict=True))
            assert valid[n][v] == inside
            assert found[n][v] == (inside and labels[v] > 0 and labels[v] == labels[w])


def test_an_offset_and_its_reverse_tell_the_same():
    labels = np.random.default_rng(1).integers(0, 3, (6, 6))
    (back, forth), _ = affinities(labels, [(-1, 0), (1, 0)])
    np.testing.assert_array_equal(back[1:], forth[:-1])


@pytest.mark.parametrize(
    ("offsets", "told"),
    [([], "one at least"), ([(0, 0)], "itself"), ([(1, 0, 0)], "2 entries, y x"), ([(0, 1), (0, 1)], "twice")],
)
def test_offsets_that_cannot_be_are_refused(offsets, told):
    with pytest.raises(UserError, match=told):
        check_offsets(offsets, 2)
