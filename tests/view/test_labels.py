"""Pictures of labels: neighbours differ, colours stay, outlines lie inside, and differences show what went wrong."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.segmentation import find_boundaries

from lamella.ops.matching import IGNORED
from lamella.view import labels
from lamella.view.labels import FALSE, FOUND, MISSED, TRUTH


def squares(numbers):
    return np.kron(np.array(numbers), np.ones((8, 8), int))


@settings(max_examples=30, deadline=None)
@given(arrays(np.int64, (3, 4), elements=st.integers(0, 60)))
def test_neighbours_have_different_colours_and_background_is_black(numbers):
    shown = labels.colours(squares(numbers)).astype(int)[4::8, 4::8]
    for axis in (0, 1):
        n, c = np.moveaxis(numbers, axis, 0), np.moveaxis(shown, axis, 0)
        differ = n[1:] != n[:-1]
        assert (c[1:] != c[:-1]).any(axis=-1)[differ].all()
    assert np.array_equal((shown == 0).all(axis=-1), numbers == 0)


def test_a_label_keeps_its_colour_where_others_come_and_go():
    apart = squares([[5, 0, 17], [0, 0, 0], [29, 0, 5]])
    alone = np.where(apart == 17, 17, 0)
    assert np.array_equal(labels.colours(apart)[alone > 0], labels.colours(alone)[alone > 0])
    assert np.array_equal(labels.colours(apart)[2, 2], labels.colours(apart)[-2, -2])


def test_labels_whose_own_colours_are_equal_are_told_apart_when_they_touch():
    touching, apart = labels.colours(squares([[1, 13]])), labels.colours(squares([[1, 0, 13]]))
    assert (touching[0, 0] != touching[0, -1]).any()
    assert (apart[0, 0] == apart[0, -1]).all()


@settings(max_examples=30, deadline=None)
@given(arrays(np.int64, (5, 6), elements=st.integers(0, 3)))
def test_outlines_are_the_inner_boundaries_of_scikit_image(numbers):
    expected = find_boundaries(numbers, connectivity=1, mode="inner")
    assert np.array_equal(labels.outline(numbers), expected)


def test_outlines_of_some_thickness_leave_the_middle():
    square = np.pad(np.ones((7, 7), int), 2)
    assert labels.outline(square, 2).sum() == 49 - 9
    picture = np.zeros((11, 11, 3), np.uint8)
    shown = labels.outlined(picture, square, (9, 8, 7))
    assert (shown == (9, 8, 7)).all(axis=-1).sum() == 49 - 25
    assert not picture.any()


def test_differences_show_found_missed_false_and_ignored():
    true, predicted = squares([[1, 0, 2, 0], [0, 0, 0, 0]]), squares([[1, 0, 0, 0], [0, 3, 0, 0]])
    true[8:, 24:] = IGNORED
    predicted[:, 7] = 0
    predicted[8:, 24:] = 7  # in the ignored region
    shown = labels.difference(np.full((16, 32, 3), 100, np.uint8), true, predicted)
    assert tuple(shown[0, 7]) == TRUTH
    assert tuple(shown[0, 6]) == FOUND
    assert tuple(shown[0, 16]) == MISSED
    assert tuple(shown[8, 8]) == FALSE
    assert shown[4, 20, 0] > shown[4, 20, 2]  # orange within
    assert len(set(shown[12, 28].tolist())) == 1  # grey
    assert shown[12, 28, 0] > shown[12, 2, 0]
