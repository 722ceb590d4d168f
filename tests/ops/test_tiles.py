"""Tiles cover all of a volume, lie inside it, and are refused where they cannot be cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.ops.tiles import TileRule


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 40), st.integers(1, 5), st.integers(1, 12), st.integers(0, 9))
def test_every_pixel_is_in_a_tile_and_every_tile_inside(length, size, step, start):
    step = min(step, size)
    box = Box((2, start, 0), (5, start + length, size))
    tiles = list(TileRule(size=(size, size), step=(step, size)).places(box))
    assert all(t.within(box) for t in tiles)
    assert len(tiles) == len(set(tiles)) == TileRule(size=(size, size), step=(step, size)).count(box)
    seen = np.zeros(box.shape, int)
    for tile in tiles:
        seen[tile.slices(box.start)] += 1
    assert seen.min() >= 1


def test_the_last_tile_is_shifted_inwards():
    tiles = list(TileRule(size=(4, 4)).places(Box.of((1, 10, 4))))
    assert [t.start[1] for t in tiles] == [0, 4, 6]


def test_tiles_of_several_slices_share_the_middle():
    tiles = list(TileRule(size=(4, 4), depth=3).places(Box.of((5, 4, 4))))
    assert [(t.start[0], t.stop[0]) for t in tiles] == [(0, 3), (1, 4), (2, 5)]
    tiles = list(TileRule(size=(4, 4), depth=4, step_z=4, centred=False).places(Box.of((10, 4, 4))))
    assert [t.start[0] for t in tiles] == [0, 4, 6]


def test_the_share_of_foreground_decides():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0] = True
    assert TileRule(min_fraction=0.25).keeps(mask)
    assert not TileRule(min_fraction=0.26).keeps(mask)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"depth": 4}, "depth 4 is even, so no slice is in the middle; choose 3 or 5"),
        ({"depth": 7}, "depth 7 is more than the 5 slices"),
        ({"size": (64, 65)}, "a tile of 64 by 65 px does not fit into 64 by 64"),
    ],
)
def test_what_does_not_fit_is_told(settings_, words):
    rule = TileRule.load({"size": (32, 32), **settings_})
    with pytest.raises(UserError, match=words):
        rule.check(Box.of((5, 64, 64)))
