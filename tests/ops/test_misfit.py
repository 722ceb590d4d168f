"""Laws of the misfit: nothing to gain where sections fit, the way to go where they do not, and parts that equal the whole."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from lamella.ops.misfit import STEP, context, misfit

SIZE = (192, 208)


def tissue(seed, size=SIZE):
    blurred = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal(size), 3)
    return np.clip(128 + 40 * blurred / blurred.std(), 1, 255).astype(np.float32)


def test_a_section_fits_itself_at_any_gain_and_offset():
    a = tissue(0)
    found = misfit(a, a, 6, 32)
    assert not found.value.any()
    assert found.here.min() > 0.999
    np.testing.assert_allclose(misfit(a, 0.5 * a + 20, 6, 32).here, found.here, atol=1e-4)


def test_tissue_that_was_moved_tells_by_how_much_and_other_tissue_tells_nothing():
    big = tissue(1, (SIZE[0] + 16, SIZE[1] + 16))
    a, b = big[8:-8, 8:-8], big[8 + 6 : SIZE[0] + 14, 8 - 4 : SIZE[1] + 4]
    found = misfit(a, b, 8, 32)  # b(p) is a(p + (6, -4))
    middle = np.s_[..., 5:-5, 5:-5]
    assert found.value[middle].min() > 0.8
    assert (found.shift[middle] == np.array([-6, 4])[:, None, None]).all()
    assert np.quantile(misfit(a, tissue(2), 8, 32).value, 0.95) < 0.25


def test_a_part_with_its_context_equals_that_part_of_the_whole():
    rng = np.random.default_rng(3)
    a, b = (np.where(rng.random((480, 512)) < 0.01, 0, tissue(n, (480, 512))) for n in (4, 5))
    whole, margin = misfit(a, b, 4, 32), context(4, 32)
    y, x = 208, 224
    cut = np.s_[y - margin : y + 64 + margin, x - margin : x + 64 + margin]
    part, n = misfit(a[cut], b[cut], 4, 32), margin // STEP
    for name in ("value", "here", "best", "shift"):
        mine = getattr(part, name)[..., n : n + 8, n : n + 8]
        np.testing.assert_allclose(mine, getattr(whole, name)[..., y // 8 : y // 8 + 8, x // 8 : x // 8 + 8], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_missing_tells_nothing_and_does_no_harm_beside(which):
    pair = [tissue(6), tissue(6)]
    pair[which][56:120, 64:136] = 0
    found = misfit(*pair, 6, 32)
    assert np.isnan(found.value[7:15, 8:17]).all()
    assert not np.nan_to_num(found.value).any()
