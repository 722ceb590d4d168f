"""Scores of instances: hand-computed answers, agreement with the definitions written out, and sums over pieces."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error, variation_of_information

from lamella.core.box import Box
from lamella.ops.matching import IGNORED, Overlaps, ignoring
from lamella.ops.matching_partition import partition_figures
from lamella.ops.matching_scores import THRESHOLDS, ObjectScores, compare, match

LABELS = arrays(np.int64, (6, 7), elements=st.integers(0, 4))


def disturbed(seed: int, shape=(60, 70)):
    """Squares as truth; shifted, merged, halved and lost ones as prediction."""
    rng = np.random.default_rng(seed)
    true = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((12, 12), int))[: shape[0], : shape[1]]
    y, x = np.mgrid[: shape[0], : shape[1]]
    true = np.where((y % 12 < 10) & (x % 12 < 9), true, 0)
    shift = rng.integers(0, 3, 2)
    predicted = np.roll(true, shift, (0, 1))
    predicted[np.isin(predicted, rng.integers(1, 31, 4))] = 0
    a, b = rng.integers(1, 31, 2)
    predicted[predicted == a] = b
    predicted[(predicted == rng.integers(1, 31)) & (y % 12 < 6)] = 99
    return true, predicted


def dense_iou(true, predicted):
    """IoU of all objects, by comparing masks."""
    rows = [true == k for k in np.unique(true[true > 0])]
    columns = [predicted == k for k in np.unique(predicted[predicted > 0])]
    return np.array([[(a & b).sum() / (a | b).sum() for b in columns] for a in rows]).reshape(len(rows), len(columns))


def defined_counts(iou):
    """TP, FP, FN at every threshold as the benchmark defines them: the assignment with the greatest sum of 1 + IoU."""
    found = []
    for t in np.arange(0.5, 1.0, 0.05):
        good = iou >= t
        a, b = linear_sum_assignment(-np.where(good, 1 + iou, 0))
        tp = int(good[a, b].sum())
        found.append((tp, iou.shape[1] - tp, iou.shape[0] - tp))
    return np.array(found)


def check_defined(true, predicted):
    iou = dense_iou(true, predicted)
    scores = ObjectScores.of(compare(Overlaps.of(true, predicted)))
    assert np.array_equal(scores.counts, defined_counts(iou))
    best = iou.max(axis=1) if iou.size else np.zeros(len(iou))
    assert np.array_equal(scores.best, best)
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_best_iou_are_those_of_the_definition(seed):
    scores = check_defined(*disturbed(seed))
    assert 0 < scores.counts[0, 0] < len(scores.best)


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS)
def test_any_labels_are_counted_as_the_definition_says(true, predicted):
    check_defined(true, predicted)


@settings(max_examples=40, deadline=None)
@given(LABELS, LABELS, st.integers(1, 5), st.integers(1, 6))
def test_overlaps_of_pieces_add_up_to_those_of_the_whole(true, predicted, row, column):
    whole = Box.of(true.shape)
    rows, columns = ((0, row), (row, 6)), ((0, column), (column, 7))
    boxes = [Box((a, c), (b, d)) for a, b in rows for c, d in columns]
    parts = [Overlaps.of(true[b.slices()], predicted[b.slices()], b, whole) for b in boxes]
    all_at_once = Overlaps.of(true, predicted).pack()
    for total in (reduce(add, parts), reduce(add, parts[::-1]), Overlaps.total(parts)):
        for name, values in total.pack().items():
            assert np.array_equal(values, all_at_once[name]), name
    assert all_at_once["counts"].sum() == true.size


def test_places_and_edges_of_objects():
    labels = np.zeros((8, 9), int)
    labels[2:4, 3:6], labels[5:, 1] = 7, 4
    objects = Overlaps.of(labels, labels).true
    assert objects.ids.tolist() == [4, 7]
    assert objects.areas.tolist() == [3, 6]
    assert objects.centres.tolist() == [[6, 1], [2.5, 4]]
    assert objects.border.tolist() == [True, False]


@settings(max_examples=40, deadline=None)
@given(LABELS.filter(lambda a: len(np.unique(a)) > 1), LABELS)
def test_partition_figures_are_those_of_scikit_image(true, predicted):
    figures = partition_figures(Overlaps.of(true, predicted))
    split, merge = variation_of_information(true, predicted)
    assert figures["voi_split"] == pytest.approx(split, abs=1e-9)
    assert figures["voi_merge"] == pytest.approx(merge, abs=1e-9)
    alone = np.where(predicted > 0, predicted, 100 + np.arange(true.size).reshape(true.shape))[
        true > 0
    ]  # ISBI's convention
    split, merge = variation_of_information(true[true > 0], alone)
    assert figures["foreground_voi_split"] == pytest.approx(split, abs=1e-9)
    assert figures["foreground_voi_merge"] == pytest.approx(merge, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_rand_error_is_that_of_scikit_image(seed):
    true, predicted = disturbed(seed)
    figures = partition_figures(Overlaps.of(true, predicted))
    assert figures["adapted_rand_error"] == pytest.approx(adapted_rand_error(true, predicted, ignore_labels=())[0])
    filled = predicted + 100 * (predicted == 0)
    figures = partition_figures(Overlaps.of(true, filled))
    assert figures["foreground_adapted_rand_error"] == pytest.approx(
        adapted_rand_error(true, filled, ignore_labels=(0,))[0]
    )


def row_of(*lengths_and_labels):
    """One row of pixels: (length, label) after each other."""
    return np.concatenate([np.full(n, k) for n, k in lengths_and_labels])[None]


def test_figures_worked_out_by_hand():
    """Two objects of ten; one met by 8 of 8 pixels (IoU 0.8), the other by 6 of a prediction of 12 (IoU 6/16); one false of 5."""
    true = row_of((10, 1), (10, 2), (10, 0), (5, 0))
    predicted = row_of((8, 1), (2, 0), (6, 2), (4, 0), (0, 0), (10, 0), (5, 3))
    predicted[0, 20:26] = 2
    figures = ObjectScores.of(compare(Overlaps.of(true, predicted))).figures()
    assert (figures["true"], figures["predicted"], figures["matched"]) == (2, 3, 1)
    assert figures["AP50"] == 1 / 4
    assert figures["AP75"] == 1 / 4
    assert figures["mAP"] == pytest.approx(
        (6 / 4) / 10
    )  # matched at 0.5 … 0.75; the threshold 0.8 is 0.8000000000000003
    assert (figures["precision"], figures["recall"], figures["F1"]) == (1 / 3, 1 / 2, 2 / 5)
    assert figures["SEG"] == 0.4  # mean of 0.8 and 0
    assert figures["SEG_ctc"] == pytest.approx((0.8 + 6 / 16) / 2)  # 6 of 10 are more than half of the second
    assert figures["PQ"] == pytest.approx(0.8 / 2.5)
    assert (figures["SQ"], figures["RQ"]) == (0.8, pytest.approx(1 / 2.5))
    first, second = 2 * 8 / 18, 2 * 6 / 22
    of_predicted = (first * 8 + second * 12) / 25  # the third overlaps nothing
    assert figures["dice_objects"] == pytest.approx(((first + second) / 2 + of_predicted) / 2)
    assert figures["dice_pixels"] == pytest.approx(2 * 14 / (20 + 25))


def test_seg_of_the_challenge_asks_for_more_than_half():
    """Exactly half of the object is not enough (Cell Tracking Challenge)."""
    true = row_of((10, 1), (4, 0))
    for covered, expected in ((5, 0.0), (6, 6 / 10)):
        predicted = row_of((covered, 3), (14 - covered, 0))
        assert ObjectScores.of(compare(Overlaps.of(true, predicted))).figures()["SEG_ctc"] == expected


def test_without_objects_there_is_nothing_to_score():
    nothing = np.zeros((4, 4), int)
    figures = ObjectScores.of(compare(Overlaps.of(nothing, nothing))).figures()
    assert (figures["AP50"], figures["true"], figures["predicted"]) == (0, 0, 0)
    assert np.isnan(figures["F1"])
    figures = ObjectScores.of(compare(Overlaps.of(np.eye(4, dtype=int), nothing))).figures()
    assert (figures["AP50"], figures["recall"], figures["SEG"], figures["dice_pixels"]) == (0, 0, 0, 0)


def test_greedy_takes_the_best_pair_first_and_hungarian_the_most_pairs():
    """The best pair, IoU 6/14, takes the only partner (4/10) of either's other neighbour."""
    true, predicted = row_of((10, 1), (4, 2)), row_of((4, 1), (10, 2))
    found = compare(Overlaps.of(true, predicted))
    assert sorted(np.round(found.iou, 3).tolist()) == [0.4, 0.4, 0.429]
    assert len(match(found, 0.3, "hungarian")) == 2
    assert len(match(found, 0.3, "greedy")) == 1


def test_ignored_regions_grow_by_one_and_count_for_nothing():
    true = np.zeros((9, 20), int)
    true[2:7, 2:8], true[2:7, 8:14] = 5, 1  # a cell, and a blob beside it
    known = ignoring(true, [1])
    assert (known[2:7, 7:15] == IGNORED).all()
    assert (known[1, 8:14] == IGNORED).all()
    assert (known[2:7, 2:7] == 5).all()
    assert known[1, 7] == 0  # across a corner is not beside
    predicted = np.zeros_like(true)
    predicted[2:7, 2:9], predicted[3:6, 9:13], predicted[0, 16:19] = 3, 4, 6  # reaches into the blob; inside it; false
    found = compare(Overlaps.of(known, predicted))
    assert found.true.areas.tolist() == [25]
    assert dict(zip(found.predicted.ids.tolist(), found.predicted.areas.tolist(), strict=True)) == {3: 25, 6: 3}
    assert found.iou.tolist() == [1.0]
    assert set(found.predicted.dropped) == {4}


@pytest.mark.parametrize(("inside", "dropped"), [(5, False), (6, True)])
def test_a_prediction_is_dropped_if_six_tenths_lie_in_an_ignored_region(inside, dropped):
    known = row_of((10, IGNORED), (10, 0))
    predicted = row_of((10 - inside, 0), (10, 1), (inside, 0))
    assert (1 in compare(Overlaps.of(known, predicted)).predicted.dropped) == dropped


def test_objects_at_the_border_go_with_what_was_predicted_for_them():
    true = np.zeros((12, 12), int)
    true[:3, 2:5], true[5:8, 5:8] = 1, 2
    predicted = np.zeros_like(true)
    predicted[1:3, 2:5], predicted[5:8, 5:8], predicted[10:, :2], predicted[9, 9] = 1, 2, 3, 4
    found = compare(Overlaps.of(true, predicted), drop_border=True)
    assert found.true.ids.tolist() == [2]
    assert found.predicted.ids.tolist() == [2, 4]  # 1 was predicted for what is dropped, 3 lies at the border itself
    assert len(compare(Overlaps.of(true, predicted)).predicted) == 4


def test_pooled_scores_are_sums_over_images():
    pairs = [disturbed(seed) for seed in range(3)]
    apart = [ObjectScores.of(compare(Overlaps.of(*pair))) for pair in pairs]
    beside = [
        np.concatenate([pair[side] + 1000 * k * (pair[side] > 0) for k, pair in enumerate(pairs)]) for side in (0, 1)
    ]
    together = ObjectScores.of(compare(Overlaps.of(*beside))).figures()
    assert reduce(add, apart).figures() == pytest.approx(together)
    assert len(THRESHOLDS) == 10


def test_large_labels_cost_no_memory():
    true = np.zeros((50, 50), np.uint64)
    true[:20, :20], true[30:, 30:] = 2**40, 2**62
    found = compare(Overlaps.of(true, true))
    assert found.iou.tolist() == [1, 1]
    assert found.true.ids.tolist() == [2**40, 2**62]
