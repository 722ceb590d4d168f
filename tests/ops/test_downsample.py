"""Laws of downsampling: missing is left out, blocks equal the whole, no defect is lost."""

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.downsample import downsample_masks, downsample_sections


def specimen(dtype=np.uint8):
    rng = np.random.default_rng(0)
    return (rng.integers(1, 200, (3, 21, 30)) * (rng.random((3, 21, 30)) > 0.3)).astype(dtype)


def test_factor_one_is_identity():
    assert np.array_equal(downsample_sections(specimen(), 1), specimen())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_missing_is_left_out(dtype):
    array = specimen(dtype)
    small = downsample_sections(array, 2)
    assert small.dtype == dtype
    assert small.shape == (3, 11, 15)
    cell = array[1, 4:6, 8:10]
    assert small[1, 2, 4] == pytest.approx(cell[cell > 0].mean(), abs=0.5 if dtype != np.float32 else 1e-4)
    assert (small == 0)[:, 10].tolist() == (downsample_masks(array, 2) == 0)[:, 10].tolist()
    assert np.array_equal(small == 0, downsample_masks(array, 2) == 0)


def test_blocks_equal_the_whole():
    array = specimen()
    assert np.array_equal(downsample_sections(array, 4)[:, 2:, 3:], downsample_sections(array[:, 8:, 12:], 4))


def test_masks_keep_thin_defects():
    mask = np.zeros((8, 8), np.uint8)
    mask[3, 5] = 2
    assert downsample_masks(mask, 4).tolist() == [[0, 2], [0, 0]]


def test_labels_that_cannot_be_averaged_are_refused():
    with pytest.raises(UserError, match="bool"):
        downsample_sections(np.ones((4, 4), bool), 2)
