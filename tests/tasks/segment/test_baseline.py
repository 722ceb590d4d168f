"""The baseline without training finds bright discs, in 2D and 3D, whatever the grey levels."""

import numpy as np
import pytest

from lamella.tasks.segment.baseline import otsu_instances


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 60), (9, 40, 60)])
def test_bright_discs_are_objects(shape, dtype):
    grid = np.indices(shape[-2:])
    inside = sum((np.hypot(grid[0] - y, grid[1] - x) < 8).astype(int) for y, x in ((20, 15), (20, 29), (12, 50)))
    image = np.broadcast_to(20 + 100 * (inside > 0), shape) + np.random.default_rng(0).integers(0, 20, shape)
    found = otsu_instances(image.astype(dtype))
    assert found.max() == 3
    assert ((found > 0) == (np.broadcast_to(inside, shape) > 0)).mean() > 0.97


def test_an_image_of_one_grey_level_has_no_objects():
    assert not otsu_instances(np.full((9, 9), 7)).any()
