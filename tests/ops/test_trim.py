"""Trimming to one size: what it fills with, and that it can be taken back."""

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.trim import Padding, Reflect, Resize, trim, untrim

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("method", [Padding(im_dim=24), Reflect(im_dim=24), Resize(im_dim=24)], ids=lambda m: m.kind)
@pytest.mark.parametrize("space", [(24, 24), (15, 20), (1, 7), (9, 11, 24)])
@pytest.mark.parametrize("what", ["image", "labels", "valid"])
def test_trimmed_to_the_size_and_back(method, space, what):
    array = RNG.integers(0, 9, (2, *space)).astype(np.float32 if what == "image" else np.int64)
    trimmed = trim(array, method, len(space), what)
    assert trimmed.shape == (2, *(24,) * len(space))
    assert trimmed.dtype == array.dtype
    back = untrim(trimmed, method, space, what)
    assert back.shape == array.shape
    if method.kind != "resize" or what != "image" or min(space) == 24:
        assert np.array_equal(back, array)


def test_filled_with_zeros_or_with_the_mirrored_image():
    line = np.array([[1.0, 2, 3, 4]])[None]
    assert trim(line, Padding(im_dim=(1, 9)), 2)[0, 0].tolist() == [0, 0, 1, 2, 3, 4, 0, 0, 0]
    assert trim(line, Reflect(im_dim=(1, 9)), 2)[0, 0].tolist() == [3, 2, 1, 2, 3, 4, 3, 2, 1]
    square = np.arange(16.0).reshape(1, 4, 4)
    assert trim(square, Reflect(im_dim=(4, 9)), 2)[0, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1, 0]


def test_only_the_image_itself_counts():
    valid = np.ones((6, 6), np.float32)
    for method in (Padding(im_dim=10), Reflect(im_dim=10)):
        trimmed = trim(valid, method, 2, "valid")
        assert trimmed.sum() == 36
        assert trimmed[2:8, 2:8].all()
    assert trim(valid, Resize(im_dim=10), 2, "valid").all()


def test_labels_gain_no_new_values_when_resized():
    labels = RNG.choice([0, 3, 2**40], (13, 17))
    for im_dim in (7, 30):
        assert set(np.unique(trim(labels, Resize(im_dim=im_dim), 2, "labels"))) <= {0, 3, 2**40}


def test_a_smooth_image_survives_resizing():
    y, x = np.mgrid[:50, :60] / 10
    image = (np.sin(y) + np.cos(x))[None].astype(np.float32)
    method = Resize(im_dim=128)
    assert np.abs(untrim(trim(image, method, 2), method, (50, 60)) - image).max() < 0.02


def test_images_that_are_too_large_are_told():
    with pytest.raises(UserError, match=r"30 x 20 does not fit into trim\.im_dim 24 x 24; raise im_dim"):
        trim(np.zeros((30, 20)), Reflect(im_dim=24), 2)
    with pytest.raises(UserError, match="has 2 sides, the images 3 axes"):
        trim(np.zeros((3, 3, 3)), Padding(im_dim=(24, 24)), 3)
    with pytest.raises(UserError, match="one side of at least 1"):
        Padding.load({"im_dim": 0})
