"""Labels by rank, against counting; and the loss, against scikit-learn and an explicit gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabels, label_by_rate, trusted_bce
from microg_da.errors import InputError


def test_the_highest_are_positive_the_lowest_negative_and_those_between_ignored():
    probabilities = torch.tensor([[0.02], [0.9], [0.3], [0.5], [0.1], [0.7], [0.2], [0.05], [0.6], [0.4]])
    labels, trusted = label_by_rate(probabilities, probabilities, torch.tensor([0.2]), torch.tensor([0.45]))
    assert labels[:, 0].nonzero()[:, 0].tolist() == [1, 5]  # two of ten: 0.9 and 0.7
    # Ten times 0.45 is rounded up to five, and those below the person of that rank (0.3) are negative.
    assert ((trusted == 1) & (labels == 0))[:, 0].nonzero()[:, 0].tolist() == [0, 4, 6, 7]


@settings(max_examples=60, deadline=None)
@given(
    people=st.integers(1, 80),
    rate=st.floats(0, 1),
    seed=st.integers(0, 1000),
    levels=st.integers(1, 50),
)
def test_never_more_positives_than_the_rate_allows(people, rate, seed, levels):
    generator = np.random.default_rng(seed)
    table = generator.integers(0, levels, (people, 3)) / levels  # with ties
    probabilities, rates = torch.tensor(table, dtype=torch.float32), torch.full((3,), rate)
    labels, trusted = label_by_rate(probabilities, probabilities, 0.5 * rates, 2 * rates)
    assert (labels.sum(dim=0) <= 0.5 * rate * people).all()
    # Nobody is positive while somebody at least as probable is not, and likewise for negatives.
    for column in range(3):
        values, kinds = table[:, column], (labels + trusted)[:, column].numpy()  # 2 yes, 1 no, 0 ignored
        order = np.where(kinds == 2, 2, np.where(kinds == 0, 1, 0))
        for low, high in [(0, 1), (1, 2), (0, 2)]:
            below, above = values[order == low], values[order == high]
            assert not len(below) or not len(above) or below.max() < above.min()


def test_without_ties_the_number_of_positives_is_exact():
    probabilities = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    rates = torch.tensor([0.0, 0.01, 0.1, 0.5])
    labels, trusted = label_by_rate(probabilities, probabilities, rates, 2 * rates)
    assert labels.sum(dim=0).tolist() == [0, 2, 20, 100]
    assert (trusted - labels).sum(dim=0).tolist() == [199, 195, 159, 0]  # all but the first 1, 5, 41 and 200


def test_a_class_that_the_teacher_names_too_often_and_one_that_it_seldom_dares_to_name_get_the_same_rate():
    generator = torch.Generator().manual_seed(0)
    bold, shy = 0.9 + 0.1 * torch.rand(300, generator=generator), 0.02 * torch.rand(300, generator=generator)
    thresholds = ClassThresholds(2, positive=1.0, negative=1.0)
    source = torch.tensor([[1.0, 1.0]] + [[0.0, 0.0]] * 9)
    labels = thresholds.label(torch.stack([bold, shy], dim=1), source).labels
    assert labels.mean(dim=0).tolist() == pytest.approx([0.1, 0.1])


def test_rates_are_of_all_source_people_and_ranks_among_the_last_target_people():
    thresholds = ClassThresholds(1, positive=1.0, negative=1.0, memory=4)
    source = torch.tensor([[1.0], [0.0]])
    thresholds.label(torch.tensor([[0.9], [0.8], [0.7]]), source)
    thresholds.label(torch.zeros(0, 1), torch.zeros(2, 1))
    assert float(thresholds.positives / thresholds.people) == 0.25
    thresholds.label(torch.tensor([[0.1], [0.2], [0.3]]), torch.zeros(0, 1))
    assert sorted(thresholds.memory[:, 0].tolist()) == pytest.approx([0.1, 0.2, 0.3, 0.7])
    thresholds.label(torch.arange(1, 8)[:, None] / 10, torch.zeros(0, 1))  # more than are remembered
    assert sorted(thresholds.memory[:, 0].tolist()) == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert int(thresholds.met) == 13


def test_nobody_is_labelled_by_nothing():
    labels, trusted = ClassThresholds(3).label(torch.zeros(0, 3), torch.zeros(0, 3))
    assert labels.shape == trusted.shape == (0, 3)
    # One person is no sample to rank in.
    labels, trusted = ClassThresholds(3).label(torch.rand(1, 3), torch.ones(4, 3))
    assert not labels.any()
    assert not trusted.any()


def test_the_loss_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, requires_grad=True)
    labels = (torch.rand(5, 4, generator=generator) > 0.5).float()
    trusted = (torch.rand(5, 4, generator=generator) > 0.4).float()
    loss = trusted_bce(logits, PseudoLabels(labels, trusted))
    loss.backward()
    chosen = trusted.numpy() == 1
    p = 1 / (1 + np.exp(-logits.detach().double().numpy()))
    total = log_loss(labels.numpy()[chosen], p[chosen], labels=[0, 1], normalize=False)
    assert float(loss.detach()) == pytest.approx(total / 20, rel=1e-5)
    expected = trusted.numpy() * (p - labels.numpy()) / 20
    assert np.allclose(logits.grad.numpy(), expected, atol=1e-6)


def test_the_loss_without_people_is_zero_and_has_a_gradient():
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = trusted_bce(logits, PseudoLabels(torch.zeros(0, 4), torch.zeros(0, 4)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad.shape == (0, 4)


@pytest.mark.parametrize("values", [{"positive": 0.0}, {"positive": 1.5}, {"negative": 0.9}, {"memory": 0}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(InputError, match=f"{next(iter(values))}={next(iter(values.values()))}"):
        ClassThresholds(2, **values)
