"""Per-class numbers against scikit-learn and against cases worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from microg_da.evaluation.classwise import auroc, average_precision, count_ties, f1_and_recall


def one_class(scores, hits, support, **options):
    column = np.array(scores, dtype=float)[:, None]
    return average_precision(column, np.array(hits, dtype=bool)[:, None], np.array([support]), **options)[0]


@pytest.mark.parametrize(
    ("hits", "support", "expected"),
    [
        ([1, 1, 1], 3, 1.0),
        ([1, 0, 1], 2, 1 / 2 * 1 + 1 / 2 * 2 / 3),
        ([0, 1], 1, 1 / 2),
        ([0, 0], 2, 0.0),
        ([1], 4, 1 / 4),
        ([0, 1, 1], 2, 2 / 3),  # the envelope lifts 1/2 to 2/3
        ([], 2, 0.0),
    ],
)
def test_average_precision_by_hand(hits, support, expected):
    assert one_class(range(len(hits), 0, -1), hits, support) == pytest.approx(expected)


def test_average_precision_is_undefined_without_ground_truth():
    assert np.isnan(one_class([3, 2], [0, 0], 0))


def test_order_within_ties():
    scores, hits = [1, 1, 1], [0, 1, 0]
    assert one_class(scores, hits, 1) == pytest.approx(1 / 2)
    assert one_class(scores, hits, 1, ties="best") == 1
    assert one_class(scores, hits, 1, ties="worst") == pytest.approx(1 / 3)


def test_missing_detections_are_no_false_positives():
    assert one_class([-np.inf, 2, -np.inf], [0, 1, 0], 1) == 1


@pytest.mark.parametrize("seed", range(20))
def test_against_sklearn(seed):
    rng = np.random.default_rng(seed)
    rows, classes = rng.integers(2, 60), 6
    truth = rng.random((rows, classes)) < rng.uniform(0, 0.7, classes)
    truth[:, 0], truth[:, 1] = False, True
    scores = rng.normal(size=(rows, classes)).round(seed % 3)
    predicted = scores > 0.3
    f1, recall = f1_and_recall(predicted, truth)
    np.testing.assert_allclose(f1, f1_score(truth, predicted, average=None, zero_division=0))
    np.testing.assert_allclose(recall, recall_score(truth, predicted, average=None, zero_division=0))
    area = auroc(scores, truth)
    both = truth.any(axis=0) & ~truth.all(axis=0)
    assert np.isnan(area[~both]).all()
    expected = [roc_auc_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(both)]
    np.testing.assert_allclose(area[both], expected)


def test_auroc_counts_what_was_never_named_as_last():
    scores = np.array([[2.0], [-np.inf], [1.0], [-np.inf]])
    truth = np.array([[True], [True], [False], [False]])
    # four pairs: 2 beats both negatives, −inf loses to 1 and ties with −inf
    assert auroc(scores, truth) == pytest.approx([2.5 / 4])


def test_no_rows_at_all():
    nothing = np.zeros((0, 3))
    assert np.isnan(auroc(nothing, nothing.astype(bool))).all()
    assert average_precision(nothing, nothing.astype(bool), np.array([1, 0, 2]))[[0, 2]].tolist() == [0, 0]
    f1, recall = f1_and_recall(nothing.astype(bool), nothing.astype(bool))
    assert f1.tolist() == recall.tolist() == [0, 0, 0]
    assert count_ties(nothing) == 0


def test_ties_are_counted_within_a_class():
    scores = np.array([[1.0, 5.0], [1.0, 1.0], [2.0, -np.inf], [1.0, -np.inf]])
    assert count_ties(scores) == 3
