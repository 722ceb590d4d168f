"""Windows: exactly those that fit and touch nothing excluded, each as likely as the others."""

from itertools import product

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.data.windows import windows, without


def by_hand(box, shape, excluded):
    """Every allowed window, found by trying all."""
    found = set()
    for first in product(*(range(a, b) for a, b in zip(box.start, box.stop, strict=True))):
        window = Box(first, tuple(a + n for a, n in zip(first, shape, strict=True)))
        if window.within(box) and all(window.intersect(e).is_empty for e in excluded):
            found.add(window)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_those_found_by_trying_all(seed):
    rng = np.random.default_rng(seed)
    box = Box((2, -3, 0), (8, 6, 9))
    corners = rng.integers((0, -5, -2), (8, 6, 9), (seed, 3))
    excluded = [Box(tuple(c.tolist()), tuple((c + rng.integers(1, 4, 3)).tolist())) for c in corners]
    found = windows(box, (2, 3, 3), excluded)
    assert {found[i] for i in range(len(found))} == by_hand(box, (2, 3, 3), excluded)
    assert len(found) == len(by_hand(box, (2, 3, 3), excluded))


def test_without_keeps_every_other_voxel_once():
    box, hole = Box((0, 0), (5, 6)), Box((1, 4), (3, 9))
    count = np.zeros((5, 6), int)
    for piece in without(box, hole):
        count[piece.slices()] += 1
    expected = np.ones((5, 6), int)
    expected[1:3, 4:] = 0
    assert np.array_equal(count, expected)


def test_draws_reach_every_window_equally():
    found = windows(Box.of((6, 6)), (3, 3), [Box((2, 5), (4, 6))])
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng) for _ in range(4000)]
    counts = [drawn.count(found[i]) for i in range(len(found))]
    assert min(counts) > 0.8 * 4000 / len(found)


def test_nothing_fits():
    assert len(windows(Box.of((2, 9)), (3, 3))) == 0
    assert len(windows(Box.of((9,)), (4,), [Box((3,), (6,))])) == 0
