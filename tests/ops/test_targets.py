"""Targets from labels: hand-computed rows, and the laws of edges, boundaries and distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from lamella.core.errors import UserError
from lamella.ops import targets

ROW = np.array([[0, 0, 3, 3, 3, 3, 3, 5, 5, 0]])
label_images = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(0, 3))


def disc(space: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(space, np.float64)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def test_a_row_by_hand() -> None:
    assert targets.objects(ROW).tolist() == [[False] * 2 + [True] * 7 + [False]]
    assert targets.boundaries(ROW)[0].nonzero()[0].tolist() == [1, 2, 6, 7, 8, 9]
    assert targets.boundaries(ROW, 4)[0].nonzero()[0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert targets.boundaries(ROW, touching_only=True)[0].nonzero()[0].tolist() == [6, 7]
    np.testing.assert_allclose(targets.distance(ROW), [[0, 0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 1, 1, 0]], rtol=1e-6)


def test_where_nothing_is_known_nothing_ends() -> None:
    known = np.ones_like(ROW, bool)
    known[0, 7:] = False
    row = np.where(known, ROW, 0)
    assert targets.boundaries(row, known=known)[0].nonzero()[0].tolist() == [1, 2]
    np.testing.assert_allclose(targets.distance(row, known=known)[0, 2:7], [0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)


@given(label_images)
def test_edges_agree_with_erosion(labels: np.ndarray) -> None:
    """An edge is where the smallest and the largest label within one step differ."""
    cross = ndimage.generate_binary_structure(labels.ndim, 1)
    low = ndimage.minimum_filter(labels, footprint=cross, mode="nearest")
    high = ndimage.maximum_filter(labels, footprint=cross, mode="nearest")
    np.testing.assert_array_equal(targets.edges(labels), low != high)


@given(label_images, st.integers(0, 2))
def test_flips_and_new_numbers(labels: np.ndarray, axis: int) -> None:
    axis %= labels.ndim
    renumbered = np.array([0, 70, 4, 9])[labels]
    for target in (targets.boundaries, targets.distance):
        np.testing.assert_array_equal(np.flip(target(np.flip(labels, axis)), axis), target(renumbered))


@given(label_images)
def test_distances_are_positive_in_cells_and_reach_one_in_each(labels: np.ndarray) -> None:
    found = targets.distance(labels)
    assert ((found > 0) == (labels > 0)).all()
    for cell in np.unique(labels[labels > 0]):
        assert found[labels == cell].max() == 1


@pytest.mark.parametrize("thickness", [2, 4, 6])
def test_thickness_across_a_straight_edge(thickness: int) -> None:
    labels = np.repeat([[1] * 10 + [2] * 10], 8, axis=0)
    assert (targets.boundaries(labels, thickness).sum(1) == thickness).all()


@pytest.mark.parametrize("thickness", [0, 1, 3])
def test_other_thickness_is_refused(thickness: int) -> None:
    with pytest.raises(UserError, match="even"):
        targets.boundaries(ROW, thickness)


def test_distances_know_the_size_of_voxels() -> None:
    """A ball seen through flat voxels has the distances of the ball seen through cubes."""
    fine = disc((61, 61, 61), (30, 30, 30), 25).astype(np.int64)
    whole, flat = targets.distance(fine), targets.distance(fine[::5], voxel_size=(50.0, 10.0, 10.0))
    inside = disc(fine.shape, (30, 30, 30), 20)[::5]
    np.testing.assert_allclose(flat[inside], whole[::5][inside], atol=0.12)


def test_touching_cells_are_parted_by_a_valley() -> None:
    labels = np.zeros((40, 64), np.int64)
    labels[disc(labels.shape, (20, 20), 13)] = 1
    labels[disc(labels.shape, (20, 45), 13)] = 2
    ridge = targets.distance(labels)[20, 20:46]
    assert ridge[0] > 0.9
    assert ridge[-1] > 0.9
    assert ridge.min() < 0.15
