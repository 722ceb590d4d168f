"""Laws of covers: they partition the box, keep to the grid, and read what they need and no more."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.blockwise import Block, Chain, cover
from lamella.core.box import Box
from lamella.core.errors import UserError


@st.composite
def covers(draw):
    ndim = draw(st.integers(1, 3))

    def per_axis(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    start, shape = per_axis(-9, 9), per_axis(1, 12)
    box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    bounds = box.grow(draw(st.integers(0, 3)))
    return {
        "box": box,
        "size": per_axis(1, 6),
        "context": per_axis(0, 3),
        "bounds": draw(st.sampled_from([None, bounds])),
        "align": draw(st.sampled_from([None, per_axis(1, 4)])),
        "origin": draw(st.sampled_from([None, per_axis(-5, 5)])),
    }


@given(covers())
@settings(max_examples=150, deadline=None)
def test_write_boxes_hold_every_voxel_exactly_once(case):
    box = case["box"]
    written = np.zeros(box.shape, int)
    for block in cover(**case):
        assert not block.write.is_empty
        written[block.write.slices(box.start)] += 1
    assert (written == 1).all()


@given(covers())
@settings(max_examples=100, deadline=None)
def test_read_boxes_add_the_context_and_stay_in_bounds(case):
    for block in cover(**case):
        wanted = block.write.grow(case["context"])
        assert block.read == (wanted if case["bounds"] is None else wanted.intersect(case["bounds"]))
        assert block.write.within(block.read)


@given(covers())
@settings(max_examples=150, deadline=None)
def test_no_two_blocks_touch_one_chunk_of_the_grid(case):
    ndim = case["box"].ndim
    align = case["align"] or (1,) * ndim
    origin = case["origin"] or (case["bounds"].start if case["bounds"] else (0,) * ndim)
    owner: dict[tuple[int, ...], int] = {}
    for block in cover(**case):
        chunks = block.write.shift(tuple(-o for o in origin)).scale(align)
        for place in np.ndindex(*chunks.shape):
            chunk = tuple(int(a + b) for a, b in zip(chunks.start, place, strict=True))
            assert owner.setdefault(chunk, block.index) == block.index


@given(covers())
@settings(max_examples=50, deadline=None)
def test_a_cover_is_a_sequence_whose_blocks_know_their_place(case):
    blocks = cover(**case)
    assert [b.index for b in blocks] == list(range(len(blocks)))
    assert blocks[-1] == list(blocks)[-1]
    assert blocks[1:3] == list(blocks)[1:3]
    assert pickle.loads(pickle.dumps(blocks)) == blocks
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_cutting_an_image_into_blocks_and_putting_it_back_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (7, 30, 41), dtype=np.uint8)
    result = np.zeros_like(image)
    for block in cover(Box.of(image.shape), (3, 16, 16), (1, 4, 4), bounds=Box.of(image.shape)):
        patch = image[block.read.slices()]
        result[block.write.slices()] = patch[block.inside]
    np.testing.assert_array_equal(result, image)


def test_blocks_by_hand():
    box = Box((2, 0), (5, 8))
    blocks = cover(box, (2, 5), (0, 1), bounds=Box.of((10, 8)), align=(1, 4))
    assert blocks[0] == Block(0, Box((2, 0), (4, 8)), Box((2, 0), (4, 8)))  # 5 is rounded up to 8
    assert blocks[1] == Block(1, Box((4, 0), (5, 8)), Box((4, 0), (5, 8)))
    assert len(blocks) == 2


def test_a_million_blocks_cost_nothing_until_asked_for():
    blocks = cover(Box.of((1000, 100_000, 100_000)), 100)
    assert len(blocks) == 10 * 1000 * 1000
    assert blocks[1001].write == Box((0, 100, 100), (100, 200, 200))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": (4,)}, {"size": 4, "context": -1}, {"size": 4, "align": (0, 1)}]
)
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match="one per axis"):
        cover(Box.of((8, 8)), **wrong)


def test_an_empty_box_has_no_blocks():
    assert len(cover(Box((3, 0), (3, 8)), 4)) == 0


def test_a_chain_is_its_covers_in_a_row():
    covers = [cover(Box.of((7, 5)), 3, 1, bounds=Box.of((7, 5))), cover(Box.of((2,)), 4), cover(Box.of((6,)), 2)]
    chain = Chain(covers)
    alone = [(k, block.write, block.read) for k, each in enumerate(covers) for block in each]
    assert [(chain.volume_of(block), block.write, block.read) for block in chain] == alone
    assert [block.index for block in chain] == list(range(len(chain)))
    assert chain[2:5] == [chain[k] for k in (2, 3, 4)]
    with pytest.raises(IndexError):
        chain[len(alone)]
