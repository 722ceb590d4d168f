"""Laws of tiling and blending."""

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.tasks.align.tiles import Tiling

SHAPES = [((40, 50), 16, 4), ((16, 16), 16, 4), ((33, 7), 8, 3), ((20, 20), 8, 0)]


@pytest.mark.parametrize(("shape", "core", "overlap"), SHAPES)
def test_tiles_cover_the_section(shape, core, overlap):
    tiling = Tiling(shape, core, overlap)
    seen = np.zeros(shape, int)
    for n in range(len(tiling)):
        seen[tiling.tile(n).slices()] += 1
    assert seen.min() >= 1
    assert max(max(tiling.tile(n).shape) for n in range(len(tiling))) <= tiling.largest


@pytest.mark.parametrize(("shape", "core", "overlap"), SHAPES)
def test_blending_parts_of_one_field_gives_that_field(shape, core, overlap):
    tiling = Tiling(shape, core, overlap)
    field = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    for box in (Box.of(shape), Box((1, 2), (min(30, shape[0]), min(7, shape[1])))):
        blended = tiling.blend(box, lambda n: field[:, *tiling.tile(n).slices()])
        np.testing.assert_allclose(blended, field[:, *box.slices()], atol=1e-5)


def test_blends_do_not_depend_on_the_block_they_are_read_in():
    tiling = Tiling((40, 50), 16, 4)
    fields = [np.full((2, *tiling.tile(n).shape), n, np.float32) for n in range(len(tiling))]
    whole = tiling.blend(Box.of((40, 50)), fields.__getitem__)
    box = Box((10, 11), (30, 41))
    np.testing.assert_array_equal(tiling.blend(box, fields.__getitem__), whole[:, *box.slices()])


def test_there_is_no_seam():
    """Tiles that disagree by a constant are joined by a ramp, not a step."""
    tiling = Tiling((16, 64), 32, 8)
    fields = [np.full((2, *tiling.tile(n).shape), 9.0 * n, np.float32) for n in range(len(tiling))]
    row = tiling.blend(Box.of((16, 64)), fields.__getitem__)[0, 8]
    assert row[0] == 0
    assert row[-1] == 9
    assert np.abs(np.diff(row)).max() < 9 / 8 + 0.1


def test_the_edge_of_a_tile_has_no_say():
    """A net is blind at the edges of a tile, but not at those of the section, where there is nothing else."""
    tiling = Tiling((16, 64), 32, 8)
    fields = [np.zeros((2, *tiling.tile(n).shape), np.float32) for n in range(len(tiling))]
    fields[0][..., -4:] = fields[1][..., :4] = 100
    assert not tiling.blend(Box.of((16, 64)), fields.__getitem__).any()
    fields[0][:, :, :4] = 7
    assert (tiling.blend(Box.of((16, 64)), fields.__getitem__)[..., :4] == 7).all()
