"""Conditional domain-adversarial training, values and gradients against an independent computation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import bernoulli

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.cdan import (
    bernoulli_condition,
    certainty_weights,
    multilinear_map,
    randomised_multilinear_map,
)
from microg_da.types import Prediction

D, C = 6, 4


def people(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, D, generator=generator, requires_grad=True)
    return Prediction(torch.randn(count, C, generator=generator, requires_grad=True), features)


def test_the_condition_is_a_one_and_the_probabilities():
    logits = torch.tensor([[0.0, math.log(3)]])
    torch.testing.assert_close(bernoulli_condition(logits), torch.tensor([[1.0, 0.5, 0.75]]))


def test_the_multilinear_map_is_the_kronecker_product():
    features, condition = torch.randn(3, D), torch.rand(3, C + 1)
    expected = np.stack([np.kron(c, f) for c, f in zip(condition.numpy(), features.numpy(), strict=True)])
    np.testing.assert_allclose(multilinear_map(features, condition), expected, rtol=1e-6)


def test_one_and_the_probabilities_span_what_all_pairs_span():
    """A linear map of f ⊗ (p, 1 − p) of every class is one of f ⊗ (1, p), and the other way round."""
    features, probabilities = torch.randn(200, D).double(), torch.rand(200, C).double()
    pairs = multilinear_map(features, torch.cat([probabilities, 1 - probabilities], dim=1)).numpy()
    ours = multilinear_map(features, torch.cat([torch.ones(200, 1), probabilities], dim=1).double()).numpy()
    for a, b in ((pairs, ours), (ours, pairs)):
        np.testing.assert_allclose(a @ np.linalg.lstsq(a, b, rcond=None)[0], b, atol=1e-9)


def test_the_random_map_keeps_inner_products_in_expectation():
    generator = torch.Generator().manual_seed(0)
    features, condition = torch.randn(5, D, generator=generator), torch.rand(5, C + 1, generator=generator)
    width = 200_000
    random = (torch.randn(size, width, generator=generator) for size in (D, C + 1))
    mapped = randomised_multilinear_map(features, condition, *random)
    exact = multilinear_map(features, condition)
    scale = exact.square().sum(1).max()
    assert ((mapped @ mapped.T - exact @ exact.T).abs() / scale).max() < 0.03


def test_certain_people_weigh_twice_and_undecided_ones_once():
    logits = torch.randn(6, C) * 2
    entropies = bernoulli(torch.sigmoid(logits.double()).numpy()).entropy().sum(axis=1)
    np.testing.assert_allclose(certainty_weights(logits), 1 + np.exp(-entropies), rtol=1e-5)
    assert float(certainty_weights(torch.full((1, C), -50.0))) == pytest.approx(2)
    assert float(certainty_weights(torch.zeros(1, 50))) == pytest.approx(1)


def explicit_loss(method, predictions, weighted):
    total = torch.zeros(())
    for truth, prediction in enumerate(predictions):
        joints = []
        for feature, logits in zip(prediction.features, prediction.logits.detach(), strict=True):
            condition = torch.cat([torch.ones(1), 1 / (1 + torch.exp(-logits))])
            if method.random_features is None:
                joints.append(torch.kron(condition, feature))
            else:
                maps = (feature @ method.random_features, condition @ method.random_condition)
                joints.append(maps[0] * maps[1] / len(maps[0]) ** 0.5)
        answers = method.domain_classifier(torch.stack(joints))[:, 0]
        weights = torch.ones(len(answers))
        if weighted:
            p = torch.sigmoid(prediction.logits.detach())
            weights = 1 + torch.exp((p * p.log() + (1 - p) * (1 - p).log()).sum(1))
        truths = torch.full((len(answers),), float(truth))
        share = 0.5 * weights / weights.sum()
        total = total + F.binary_cross_entropy_with_logits(answers, truths, share, reduction="sum")
    return total


@pytest.mark.parametrize("max_dim", [1, 4096])
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_through_the_whole_method_equal_the_explicit_ones(max_dim, weighted):
    arguments = {"weight": 0.4, "gamma": 8.0, "hidden_dim": 5, "max_dim": max_dim, "random_dim": 9}
    torch.manual_seed(0)
    method = create_adaptation("cdan", arguments | {"entropy_weighting": weighted}, feature_dim=D, num_classes=C)
    source, target = people(4, 1), people(3, 2)
    loss = method.losses(source, target, torch.zeros(4, C), progress=0.3)["domain"]
    loss.backward()
    strength = 0.4 * math.tanh(4 * 0.3)

    again = people(4, 1), people(3, 2)
    expected = explicit_loss(method, again, weighted)
    grads = torch.autograd.grad(expected, [*(p.features for p in again), *method.parameters()])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(source.features.grad, -strength * grads[0])
    torch.testing.assert_close(target.features.grad, -strength * grads[1])
    assert source.logits.grad is None  # The condition is given, not adapted.
    for parameter, gradient in zip(method.parameters(), grads[2:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_domains_without_people(of_source, of_target):
    method = create_adaptation("cdan", feature_dim=D, num_classes=C)
    source, target = people(of_source), people(of_target)
    loss = method.losses(source, target, torch.zeros(of_source, C), 0.5)["domain"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.features.grad).all() for p in (source, target))
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_random_map_is_kept_with_the_method():
    first = create_adaptation("cdan", {"max_dim": 1}, feature_dim=D, num_classes=C)
    second = create_adaptation("cdan", {"max_dim": 1}, feature_dim=D, num_classes=C)
    assert not torch.equal(first.random_features, second.random_features)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.random_features, second.random_features)
    assert torch.equal(first.random_condition, second.random_condition)


def test_domains_that_differ_only_given_the_action_are_told_apart():
    """Over all people the features agree; given the class they are mirrored, which only conditioning can show."""
    torch.manual_seed(0)

    def loss_after_training(name):
        method = create_adaptation(name, {"weight": 0.0}, feature_dim=2, num_classes=1)
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
        for _ in range(150):
            sides = [torch.randint(0, 2, (128, 1)).float() * 2 - 1 for _ in range(2)]
            clouds = [sign * side + 0.1 * torch.randn(128, 2) for sign, side in zip((1, -1), sides, strict=True)]
            predictions = [Prediction(4 * side, cloud) for side, cloud in zip(sides, clouds, strict=True)]
            optimizer.zero_grad()
            loss = method.losses(*predictions, torch.zeros(128, 1), 1.0)["domain"]
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    assert loss_after_training("dann") > 0.6
    assert loss_after_training("cdan") < 0.1
