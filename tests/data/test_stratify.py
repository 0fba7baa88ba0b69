"""Group stratification against brute force over every division, and its invariants."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microg_da.data.stratify import split_distance, stratify_groups
from microg_da.errors import InputError


def best_by_trying_all(tables, fractions) -> float:
    groups, parts = len(tables[0]), len(fractions)
    divisions = (np.array(division) for division in product(range(parts), repeat=groups))
    return min(split_distance(d, tables, fractions) for d in divisions if len(set(d.tolist())) == parts)


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_nearest_of_all_divisions(seed: int):
    rng = np.random.default_rng(seed)
    tables = [rng.integers(1, 30, (7, 1)), rng.poisson(1.5, (7, 4))]
    fractions = (0.6, 0.2, 0.2)
    found = split_distance(stratify_groups(tables, fractions, seed=seed), tables, fractions)
    assert found == pytest.approx(best_by_trying_all(tables, fractions), abs=1e-9)


def test_equal_groups_are_divided_exactly():
    tables = [np.ones((10, 1)), np.tile(np.eye(2), (5, 1))]
    parts = stratify_groups(tables, (0.6, 0.4))
    assert np.bincount(parts).tolist() == [6, 4]
    assert split_distance(parts, tables, (0.6, 0.4)) == pytest.approx(0)


def test_distance_is_the_share_on_the_wrong_side():
    # One column, everything on the first side where half was due: half of it would have to move.
    assert split_distance(np.zeros(4, int), [np.ones((4, 1))], (0.5, 0.5)) == pytest.approx(0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 12), st.integers(1, 5), st.integers(0, 1000))
def test_every_part_has_a_group_and_nothing_is_random_but_the_seed(groups: int, columns: int, seed: int):
    rng = np.random.default_rng(seed)
    tables = [rng.integers(1, 9, (groups, 1)), rng.poisson(0.5, (groups, columns))]
    parts = stratify_groups(tables, (0.7, 0.1, 0.2), seed=seed, restarts=2)
    assert set(parts.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(parts, stratify_groups(tables, (0.7, 0.1, 0.2), seed=seed, restarts=2))


def test_too_few_groups():
    with pytest.raises(InputError, match=r"\b2 groups\b.*\b3 parts"):
        stratify_groups([np.ones((2, 1))], (0.7, 0.1, 0.2))
