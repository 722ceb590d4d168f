"""Two ways between sections become one field, which leads there and, asked for the other way, back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lamella.core.box import Box
from lamella.core.rng import stream
from lamella.ops.field import compose, invert, smooth_field, warp
from lamella.tasks.align.agreed import agreed
from lamella.tasks.align.estimate import Wider
from lamella.tasks.align.refine_settings import RefineSettings
from lamella.tasks.align.tiles import Tiling
from tests.tasks.align.nets import constant, estimator, untrained
from tests.tasks.align.test_refine import lengths, tissue

SIZE = (192, 208)
GRID = (48, 52)
INNER = np.s_[..., 8:-8, 8:-8]


def section(name: str) -> np.ndarray:
    return (tissue(SIZE, name)[0, 0].numpy() * 255).astype(np.uint8)


def test_a_field_and_its_inverse_agree_on_the_field():
    field = smooth_field(stream(0, "field"), GRID, 1.5, 24.0)
    found = agreed(field, invert(field), tissue(SIZE), tissue(SIZE, "other"), 2, 0)
    assert lengths(found - field)[INNER].max() < 0.01


def test_swapped_sections_give_the_inverse():
    there, off = (smooth_field(stream(0, name), GRID, size, 24.0) for name, size in (("field", 1.5), ("off", 0.1)))
    back = invert(there) + off
    images = tissue(SIZE), tissue(SIZE, "other")
    found = agreed(there, back, *images, 2, 0), agreed(back, there, *images[::-1], 2, 0)
    assert lengths(compose(*found))[INNER].max() * 4 < 0.02
    assert lengths(compose(there, back))[INNER].max() * 4 > 0.2


@pytest.mark.parametrize("wrong", ["there", "back"])
def test_where_two_ways_lie_far_apart_the_one_that_fits_is_taken(wrong):
    image = tissue(SIZE)
    true = torch.full((1, 2, *GRID), 1.5)
    target = warp(image, 4 * F.interpolate(true, SIZE), padding="border")
    other = torch.full_like(true, -2.0)
    there, back = (other, -true) if wrong == "there" else (true, -other)
    found = agreed(there, back, F.pad(image, (8,) * 4), target, 2, 8)
    assert lengths(found - true)[INNER].max() * 4 < 0.1


def test_where_neither_fits_both_count_alike():
    there, back = torch.full((1, 2, *GRID), 1.0), torch.full((1, 2, *GRID), 3.0)
    found = agreed(there, back, tissue(SIZE), tissue(SIZE, "other"), 2, 0)
    assert lengths(found + 1.0).max() * 4 < 0.2


@pytest.mark.parametrize("steps", [0, 3])
def test_an_estimator_goes_there_and_back_to_where_it_began(steps):
    first = section("tissue")
    field = smooth_field(stream(0, "field"), SIZE, 2.0, 64.0)
    second = warp(torch.from_numpy(first.astype(np.float32))[None, None], field, padding="border")[0, 0].numpy()
    second = (0.5 * second + 0.5 * section("noise")).astype(np.uint8)
    apart = []
    for symmetric in (True, False):
        both = estimator(untrained(2), symmetric=symmetric, passes=2, refine=RefineSettings(steps=steps))
        there, back = (torch.from_numpy(both.pair(*pair))[None] for pair in ((first, second), (second, first)))
        apart.append(float(lengths(compose(there, back))[..., 24:-24, 24:-24].median()))
    assert apart[0] < 0.05
    assert apart[0] < 0.3 * apart[1]


def test_masks_keep_the_jump_of_what_is_torn():
    whole = tissue((128, 256))
    jump = torch.zeros(1, 2, 128, 256)
    jump[:, 1, :, :126], jump[:, 1, :, 126:] = -1.5, 1.5
    target = warp(whole, jump, padding="border")
    images = [(x[0, 0].numpy() * 255).astype(np.uint8) for x in (whole, target)]
    mask = np.zeros((128, 256), np.uint8)
    mask[:, 122:130] = 2
    both = estimator(constant(0, 0, 2), symmetric=True, refine=RefineSettings(steps=4))
    apart, across = (both.pair(*images, np.zeros_like(m), m)[1, 16:-16] for m in (mask, np.zeros_like(mask)))
    beside = np.concatenate([apart[:, 106:120] + 1.5, apart[:, 132:146] - 1.5], 1)
    assert np.abs(beside).max() < 0.3
    assert np.abs(np.concatenate([across[:, 106:120] + 1.5, across[:, 132:146] - 1.5], 1)).max() > 0.4


def test_blended_tiles_agree_with_the_whole():
    size, margin = (160, 416), 96
    field = smooth_field(stream(0, "field"), size, 3.0, 96.0)
    images = [tissue(size), warp(tissue(size), field, padding="border")]
    around = [np.pad(x[0, 0].numpy(), margin) for x in images]
    both = estimator(constant(0, 0, 2), symmetric=True, refine=RefineSettings(steps=2))

    def found(box: Box) -> np.ndarray:
        (y, x), (b, r) = ((4 * n for n in corner) for corner in (box.start, box.stop))

        def reader(image: np.ndarray):
            return lambda m: image[margin + y - m : margin + b + m, margin + x - m : margin + r + m]

        return both.coarse(*(reader(image) for image in around))

    tiling = Tiling((40, 104), 40, 24)
    blended = tiling.blend(Box.of((40, 104)), lambda i: found(tiling.tile(i)))
    assert np.abs(blended - found(Box.of((40, 104)))).max() * 4 < 0.05


def test_a_reader_reads_again_only_for_more():
    image, asked = np.arange(10000.0, dtype=np.float32).reshape(100, 100), []

    def read(margin: int) -> np.ndarray:
        asked.append(margin)
        return image[40 - margin : 60 + margin, 40 - margin : 60 + margin]

    around = Wider(read)
    for margin in (0, 5, 32, 0, 7):
        assert np.array_equal(around(margin), image[40 - margin : 60 + margin, 40 - margin : 60 + margin])
    assert asked == [0, 32]
