"""A first look at halved images finds what is out of the net's reach, and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lamella.core.rng import stream
from lamella.tasks.align.compared import halved
from tests.tasks.align.nets import constant, estimator, matcher

MIDDLE = np.s_[:, 108:-108, 108:-108]  # beyond what the smoothed first field brings in from the edges


def pair(dy: int, dx: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Source and target; the target's tissue lies (dy, dx) px further in the source."""
    tissue = stream(0, "tissue").integers(1, 256, (size[0] + 32, size[1] + 32)).astype(np.uint8)
    source, target = tissue[16:, 16:], tissue[16 + dy :, 16 + dx :]
    return source[: size[0], : size[1]], target[: size[0], : size[1]]


@pytest.mark.parametrize(
    ("halvings", "shift", "size"), [(0, (-2, 3), (240, 240)), (1, (-4, 6), (240, 251)), (2, (8, -12), (245, 242))]
)
def test_each_halving_doubles_what_is_found(halvings, shift, size):
    source, target = pair(*shift, size)
    found = estimator(matcher(), halvings=halvings).pair(source, target)[MIDDLE]
    expected = np.reshape(shift, (2, 1, 1))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=0.01)
    if halvings:
        without = estimator(matcher()).pair(source, target)[MIDDLE]
        assert np.median(np.abs(without - expected)) > 2


def test_answers_count_in_pixels_of_the_halved_images():
    image = np.full((64, 72), 100, np.uint8)
    found = estimator(constant(0.5, -1), halvings=1, passes=2).pair(image, image)
    np.testing.assert_allclose(found, np.broadcast_to([[[2.0]], [[-4.0]]], found.shape), atol=1e-4)  # 2 + 1 + 1 times


def test_halving_takes_the_mean_of_what_is_not_missing():
    image = torch.tensor([[1.0, 3.0, 0.0, 0.0], [5.0, 0.0, 0.0, 8.0], [2.0, 2.0, 6.0, 0.0]])
    assert halved(image[None, None])[0, 0].tolist() == [[3.0, 0.0], [2.0, 6.0]]
