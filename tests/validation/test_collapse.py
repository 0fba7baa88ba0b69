"""The guard: what it catches, and what it lets pass."""

import pytest
import torch

from microg_da.validation.collapse import collapse_report, commonest_answer
from microg_da.validation.observations import Observed

C = 10


def people(rates, count=200, seed=0):
    """Logits of people for whom class c is predicted at rate ``rates[c]``."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, len(rates), generator=generator) < torch.tensor(rates)).float() * 8 - 4


def report(source, target):
    empty = torch.zeros(0, 1)
    return collapse_report(Observed(None, source, empty, target, empty))


VARIED = [0.5, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (torch.full((50, C), -9.0), "no class"),
        (torch.full((50, C), 9.0), "every class"),
        (people([0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0], 50), "one class"),
        (people([0, 1.0, 0, 1.0, 0, 1.0, 0, 0, 0, 0], 50), "3 classes"),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_the_same_answer_for_all_is_a_collapse_whatever_the_source(target, answer, shared):
    found = report(target if shared else people(VARIED), target)
    assert found.collapsed
    assert found.reason == f"100% of the target people get the same prediction, {answer}"
    assert found.agreement == 1


@pytest.mark.parametrize("factor", [0.1, 5.0])
def test_far_fewer_or_far_more_labels_are_a_collapse(factor):
    source = people([0.15] * C)
    found = report(source, people([0.15 * factor] * C))
    if factor < 1:  # nearly everybody gets no class, which is one answer too
        assert found.collapsed
    else:
        assert found.collapsed
        assert "7.4 classes per person" in found.reason or "7.5 classes per person" in found.reason
    assert found.target_rate / found.source_rate == pytest.approx(factor, rel=0.25)


def test_rates_are_shares_of_people():
    source, target = people(VARIED), people(VARIED[::-1], seed=1)
    found = report(source, target)
    assert found.source_rates == pytest.approx((source > 0).float().mean(0).tolist())
    assert found.target_rates == pytest.approx((target > 0).float().mean(0).tolist())
    assert found.source_rate == pytest.approx(float((source > 0).float().mean()))
    assert found.agreement == commonest_answer(target > 0)[0]


def test_other_labels_on_the_target_are_flagged_and_no_collapse():
    found = report(people([0.5, 0.3, 0.0, 0.0, 0.1, 0.1]), people([0.0, 0.3, 0.5, 0.0, 0.1, 0.1], seed=1))
    assert found.flagged == (0, 2)
    assert not found.collapsed
    assert found.reason == ""


def test_a_difference_that_chance_explains_is_not_flagged():
    assert report(people([0.5, 0.1], 12), people([0.5, 0.0], 12, seed=1)).flagged == ()


def test_equal_domains_are_healthy():
    for seed in range(5):
        found = report(people(VARIED, seed=seed), people(VARIED, seed=seed + 10))
        assert not found.collapsed
        assert found.flagged == ()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_of_a_few_people_nothing_is_said(count):
    found = report(people(VARIED), torch.full((count, C), -9.0))
    assert found.verdict == "too_few_people"
    assert not found.collapsed
    assert str(count) in found.reason


def test_from_ten_people_on_there_is_a_verdict():
    assert report(people(VARIED), torch.full((10, C), -9.0)).verdict == "collapsed"
    assert report(people(VARIED), people(VARIED, 10, seed=1)).verdict == "sound"


def test_without_source_people_answers_alone_are_compared():
    assert not report(torch.zeros(0, C), people(VARIED)).collapsed
    assert report(torch.zeros(0, C), torch.full((50, C), -9.0)).collapsed


def test_flagged_classes_have_the_ids_of_the_taxonomy():
    found = report(people([0.5, 0.3]), people([0.0, 0.3], seed=1))
    assert found.flagged == (0,)
    assert found.with_class_ids((11, 12)).flagged == (11,)


def test_the_commonest_answer():
    rows = torch.tensor([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=torch.bool)
    assert commonest_answer(rows) == (0.5, 1)
    share, classes = commonest_answer(rows[:0])
    assert share != share
    assert classes == 0


def with_source_map(now):
    empty = torch.zeros(0, 1)
    return Observed(now, people(VARIED), empty, people(VARIED, seed=1), empty)


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [
        (0.40, 0.92, "source_forgotten"),
        (0.47, 0.92, "sound"),
        (0.95, 0.92, "sound"),
        (0.0, 0.92, "source_forgotten"),
        (None, 0.92, "sound"),
        (0.40, None, "sound"),
        (float("nan"), 0.92, "sound"),
        (0.40, float("nan"), "sound"),
    ],
)
def test_a_detector_that_lost_half_of_its_source_map_has_forgotten_the_source(now, before, verdict):
    found = collapse_report(with_source_map(now), before)
    assert found.verdict == verdict
    assert not found.collapsed
    assert ("from 92 to" in found.reason) == (verdict == "source_forgotten")


def test_a_collapse_is_said_before_a_forgotten_source():
    empty = torch.zeros(0, 1)
    gone = Observed(0.1, people(VARIED), empty, torch.full((50, C), -9.0), empty)
    assert collapse_report(gone, 0.9).verdict == "collapsed"
