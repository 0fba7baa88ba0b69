"""Thresholds that give each class the share of people that it has on the source."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from microg_da.adaptation.class_rates import rate_thresholds


@given(st.integers(2, 60), st.integers(0, 2**16), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_as_many_people_lie_above_as_the_rate_says(people, seed, rates):
    logits = torch.randn(people, 3, generator=torch.Generator().manual_seed(seed)) * 5 - 8
    thresholds = rate_thresholds(logits, torch.tensor(rates))
    for column, threshold, rate in zip(logits.T.numpy(), thresholds, rates, strict=True):
        wanted = int(np.round(np.float32(rate) * np.float32(people)))
        if 1 <= wanted < people:
            assert (column > threshold.item()).sum() == wanted
        else:
            assert threshold == 0


def test_the_threshold_is_the_quantile_of_numpy_at_the_middle_of_a_gap():
    logits = torch.arange(10.0)[:, None]
    assert rate_thresholds(logits, torch.tensor([0.3])).item() == np.quantile(np.arange(10.0), 6.5 / 9)


@pytest.mark.parametrize("people", [0, 1])
def test_too_few_people_change_nothing(people):
    assert rate_thresholds(torch.full((people, 4), -9.0), torch.full((4,), 0.5)).tolist() == [0] * 4


def test_classes_that_the_source_never_has_keep_their_threshold():
    logits = torch.randn(500, 50)
    rates = torch.zeros(50)
    rates[:14] = torch.tensor([0.5 / 2**k for k in range(14)])  # a long tail; the last are rarer than one person
    thresholds = rate_thresholds(logits, rates)
    assert (thresholds[14:] == 0).all()
    assert (thresholds[:8] != 0).all()
    assert (thresholds[12:14] == 0).all()
