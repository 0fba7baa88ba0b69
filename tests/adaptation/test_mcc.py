"""Minimum class confusion: each class is the paper's loss for two answers."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.mcc import class_confusion
from microg_da.types import Prediction

C = 4


def logits_of(count, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(count, C, generator=generator)).requires_grad_()


def papers_loss(logits, temperature, weights):
    """The paper's equations for softmax predictions, ``(K, M)`` logits; the weights are given."""
    predictions = torch.softmax(logits / temperature, dim=1)
    correlation = predictions.T @ torch.diag(weights) @ predictions
    confusion = correlation / correlation.sum(dim=1, keepdim=True)
    return (confusion.sum() - confusion.trace()) / logits.shape[1]


def explicit(logits, temperature):
    """The paper's loss of every class against its absence, averaged."""
    losses = []
    for column in logits.T:
        pair = torch.stack([column, torch.zeros_like(column)], dim=1)
        p = torch.softmax(pair.detach() / temperature, dim=1)
        entropies = -(p * p.log()).sum(dim=1)
        weights = 1 + torch.exp(-entropies)
        losses.append(papers_loss(pair, temperature, len(pair) * weights / weights.sum()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_value_and_gradient_equal_the_papers_for_two_answers(count, temperature):
    ours, theirs = logits_of(count), logits_of(count).detach().double().requires_grad_()
    loss, expected = class_confusion(ours, temperature), explicit(theirs, temperature)
    loss.backward()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=1e-6, rtol=1e-4)


def test_it_is_one_minus_the_share_of_variance_that_people_explain():
    logits = logits_of(30).detach()
    p = torch.sigmoid(logits / 2).double().numpy()
    weights = 1 + np.exp(p * np.log(p) + (1 - p) * np.log(1 - p))
    mean = (weights * p).sum(0) / weights.sum(0)
    variance = (weights * (p - mean) ** 2).sum(0) / weights.sum(0)
    expected = (0.5 * (1 - variance / (mean * (1 - mean)))).mean()
    assert float(class_confusion(logits, 2.0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("logit", [-6.0, 0.0, 6.0])
def test_telling_all_people_the_same_is_the_worst(logit):
    """So a collapse, to nothing or to everything, does not pay."""
    assert float(class_confusion(torch.full((7, C), logit), 1.0)) == pytest.approx(0.5, abs=1e-4)
    assert float(class_confusion(logits_of(7).detach())) < 0.5


def test_certain_predictions_are_not_confused_though_classes_go_together():
    present = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0]])
    assert float(class_confusion(30 * (present - 0.5) * 2, 1.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("logit", [-1e4, -60.0, -30.0, 1e4])
def test_extreme_predictions_have_a_finite_gradient(count, logit):
    logits = torch.full((count, C), logit, requires_grad=True)
    loss = class_confusion(logits)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_the_most_likely_are_sharpened():
    torch.manual_seed(0)
    method = create_adaptation("mcc", feature_dim=2, num_classes=C)
    logits = logits_of(12, scale=1.0)
    ranks = logits.detach().argsort(dim=0)
    before = float(class_confusion(logits.detach()))
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        target = Prediction(logits, torch.zeros(12, 2))
        method.losses(target, target, torch.zeros(12, C), 0.5)["confusion"].backward()
        optimizer.step()
    assert float(class_confusion(logits.detach())) < before / 4
    likeliest = logits.detach().gather(0, ranks[-1:])
    assert (likeliest > 2).all()
    assert (logits.detach().gather(0, ranks[:1]) < -2).all()
