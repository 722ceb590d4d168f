"""Laws of ternary masks and their weights."""

import torch

from lamella.ops import masks as m


def dot(size=15, at=7):
    mask = torch.zeros(1, 1, size, size)
    mask[..., at, at] = 1
    return mask


def test_dilation_grows_by_its_radius_and_erosion_undoes_it_on_squares():
    grown = m.dilate(dot(), 3)
    assert grown.sum() == 49
    assert torch.equal(m.erode(grown, 3), dot())


def test_erosion_does_not_eat_from_the_edge():
    assert m.erode(torch.ones(1, 1, 9, 9), 3).min() == 1


def test_closing_fills_small_holes_only():
    image = torch.ones(1, 1, 21, 21)
    image[..., 10, 10] = 0
    assert m.present(image, 1).min() == 1
    image[..., 3:9, 3:9] = 0
    assert m.present(image, 1)[..., 4:8, 4:8].max() == 0


def test_ternary_masks_hold_only_their_values():
    mask = m.ternary(dot(), 2)
    assert mask[0, 0, 7, 7] == 2
    assert (mask == 1).sum() == 24
    assert set(mask.unique().tolist()) == {0.0, 1.0, 2.0}


def test_a_moved_mask_keeps_a_thin_defect():
    moved = m.warp_mask(m.ternary(dot(), 1), torch.full((1, 2, 15, 15), 0.4))
    assert set(moved.unique().tolist()) <= {0.0, 1.0, 2.0}
    assert (moved == 2).any()


def test_similarity_weights_follow_the_lambdas():
    valid = torch.ones(1, 1, 31, 31)
    valid[..., :2] = 0
    source = m.ternary(dot(31, 15), 4)
    weights = m.similarity_weights(None, source, valid, near=5.0, inside=0.25)
    assert weights[0, 0, 15, 15] == 0.25
    assert weights[0, 0, 15, 19] == 5.0
    assert weights[0, 0, 15, 25] == 1.0
    assert weights[..., :2].max() == 0
    target_only = m.similarity_weights(source, None, valid, near=5.0, inside=0.25)
    assert target_only[0, 0, 15, 19] == 1.0
    assert target_only[0, 0, 15, 15] == 0.25


def test_smoothness_weights_follow_the_lambdas_and_change_gradually():
    valid = torch.ones(1, 1, 61, 61)
    source = m.ternary(m.dilate(dot(61, 30), 2), 5)
    weights = m.smoothness_weights(source, valid, near=0.1, inside=0.0, radius=4)
    row = weights[0, 0, 30]
    assert row[30] == 0
    assert row[0] == 1
    between = row[37:48]
    assert (between.diff() >= -1e-6).all()
    assert between[0] < 0.11
    assert torch.equal(m.smoothness_weights(None, valid, near=0.1, inside=0.0, radius=4), valid)
