"""Weighted rank correlation against its definition, choosing against loops, and the ensemble's guarantee."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from microg_da.errors import InputError
from microg_da.validation.ensemble import ensv
from microg_da.validation.ranking import advantage_over_default, mean_within, weighted_rank_correlation


def tau(scores, truth):
    """Vigna's formula, pair by pair, ranks from each side in turn."""
    found = []
    for by in (truth, scores):
        order = sorted(range(len(by)), key=lambda index: (-by[index], -(scores if by is truth else truth)[index]))
        rank = {index: place for place, index in enumerate(order)}
        sums = [0.0, 0.0, 0.0]
        for i, j in itertools.combinations(range(len(by)), 2):
            weight = 1 / (rank[i] + 1) + 1 / (rank[j] + 1)
            a, b = np.sign(scores[i] - scores[j]), np.sign(truth[i] - truth[j])
            sums = [old + weight * new for old, new in zip(sums, (a * b, a * a, b * b), strict=True)]
        found.append(sums[0] / math.sqrt(sums[1] * sums[2]))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_weighted_tau_of_its_definition(seed):
    scores, truth = np.random.default_rng(seed).normal(size=(2, 7))
    assert weighted_rank_correlation(scores, truth) == pytest.approx(tau(list(scores), list(truth)))


def test_the_ends_of_the_scale_and_what_is_ruled_out():
    truth = [3.0, 1, 2, 5]
    assert weighted_rank_correlation([30.0, 10, 20, 50], truth) == pytest.approx(1)
    assert weighted_rank_correlation([-x for x in truth], truth) == pytest.approx(-1)
    assert weighted_rank_correlation([3, -math.inf, -math.inf, 5], truth) == weighted_rank_correlation(
        [3, 0, 0, 5], truth
    )
    assert weighted_rank_correlation([3, math.nan, 2, 5], truth) == pytest.approx(1)


def test_an_error_at_the_top_costs_more_than_one_at_the_bottom():
    truth = [1.0, 2, 3, 4, 5, 6]
    at_top, at_bottom = [1, 2, 3, 4, 6, 5], [2, 1, 3, 4, 5, 6]
    assert weighted_rank_correlation(at_top, truth) < weighted_rank_correlation(at_bottom, truth) < 1


@pytest.mark.parametrize(("scores", "truth"), [([], []), ([1.0], [2.0]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_nothing_to_rank_is_no_number(scores, truth):
    assert math.isnan(weighted_rank_correlation(scores, truth))


@pytest.fixture
def table():
    rows = [
        ("dann", 0, 0.1, 30.0, True), ("dann", 0, 0.3, 35.0, False), ("dann", 0, 0.2, 33.0, False),
        ("dann", 1, 0.9, 30.0, True), ("dann", 1, 0.3, 35.0, False), ("dann", 1, math.nan, 40.0, False),
        ("mcc", 0, 0.5, 20.0, True), ("mcc", 0, -math.inf, 50.0, False),
        ("mmd", 0, 0.5, 20.0, True),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["family", "seed", "score", "map", "default"])


def test_within_a_method_only_groups_that_can_be_ranked_count(table):
    assert mean_within(table, ["seed", "family"], "score", "map") == (pytest.approx(1.0), 1)
    found, groups = mean_within(table, ["seed", "family"], "score", "map", least=2)
    assert (found, groups) == (pytest.approx((1 - 1 - 1) / 3), 3)
    assert math.isnan(mean_within(table, ["seed", "family"], "score", "map", least=9)[0])


def test_the_default_is_what_a_choice_is_measured_from(table):
    """Seed 0 of dann gains 5, seed 1 keeps its default, mcc's other setting is ruled out, mmd has no choice."""
    found, groups = advantage_over_default(table, ["seed", "family"], "score", "map", lambda part: part["default"])
    assert (found, groups) == (pytest.approx((5 + 0 + 0) / 3), 3)


def test_a_choice_that_loses_is_negative_and_none_that_can_be_made_is_the_default(table):
    table.loc[table["family"] == "dann", "score"] *= -1
    table.loc[table["family"] == "mcc", "score"] = math.nan
    found, _ = advantage_over_default(table, ["seed", "family"], "score", "map", lambda part: part["default"])
    assert found == pytest.approx((0 + 5 + 0) / 3)
    empty = advantage_over_default(table.head(0), ["seed", "family"], "score", "map", lambda part: part["default"])
    assert math.isnan(empty[0])


def test_ensv_is_the_balanced_accuracy_by_the_ensembles_labels():
    candidates = np.random.default_rng(0).random((4, 30, 3))
    labels = candidates.mean(0) > 0.5
    expected = [
        np.mean([balanced_accuracy_score(labels[:, c], candidate[:, c] > 0.5) for c in range(3)])
        for candidate in candidates
    ]
    assert ensv(list(candidates)) == pytest.approx(expected)


def test_ensv_finds_the_one_that_is_not_like_the_others():
    generator = np.random.default_rng(1)
    truth = generator.random((200, 5)) < 0.3
    good = [np.where(generator.random(truth.shape) < 0.1, ~truth, truth) * 0.8 + 0.1 for _ in range(4)]
    silent, noise = np.zeros(truth.shape), generator.random(truth.shape)
    found = ensv([*good, silent, noise])
    assert found[:4].min() > found[4:].max()
    assert found[4] == 0.5  # to say no to everything is no accuracy


def test_ensv_without_two_sides_says_nothing():
    assert np.isnan(ensv([np.zeros((5, 3)), np.zeros((5, 3))])).all()
    assert np.isnan(ensv([np.zeros((0, 3))])).all()
    one = ensv([np.array([[0.9, 0.1], [0.2, 0.1]])] * 2)
    assert one.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("candidates", [[], [np.zeros((2, 3)), np.zeros((3, 3))]])
def test_candidates_must_be_of_the_same_people(candidates):
    with pytest.raises(InputError, match="ensv"):
        ensv(candidates)
