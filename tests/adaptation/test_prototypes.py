"""Running prototypes against means taken by hand, and the thresholds that keep class rates."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from microg_da.adaptation.prototypes import Prototypes, directions, exceeded_by, weighted_sums

N, C, D = 40, 3, 6


@pytest.fixture
def people():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, D, generator=generator), torch.rand(N, C, generator=generator) ** 3


def by_hand(features, weights):
    return np.array([np.average(features, axis=0, weights=column) for column in weights.T])


def test_prototypes_are_weighted_means(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.9)
    prototypes.start(features, probabilities)
    weights = probabilities.numpy()
    for row, expected in zip(directions(prototypes.sums), (weights, 1 - weights), strict=True):
        mean = by_hand(features.numpy(), expected)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(prototypes.sums[0, :, -1], weights.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(prototypes.rate, weights.mean(axis=0), rtol=1e-5)


def test_margins_are_differences_of_cosines(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.9)
    prototypes.start(features, probabilities)
    weights = probabilities.numpy()
    positive, negative = (by_hand(features.numpy(), w) for w in (weights, 1 - weights))
    expected = cosine_similarity(features, positive) - cosine_similarity(features, negative)
    np.testing.assert_allclose(prototypes.margins(features), expected, atol=1e-6)


def test_as_many_people_have_a_class_as_its_rate_says(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.9)
    prototypes.start(features, probabilities)
    share = (prototypes.scores(features) > 0).float().mean(dim=0)
    assert torch.allclose(share, prototypes.rate, atol=1 / N)


def test_exceeded_by_everybody_and_nobody():
    values = torch.arange(10.0)[:, None].expand(10, 3)
    thresholds = exceeded_by(values, torch.tensor([0.0, 0.3, 1.0]))
    assert [(values[:, c] > thresholds[c]).sum().item() for c in range(3)] == [0, 3, 9]


def test_sums_follow_a_batch_with_the_given_memory(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.75)
    prototypes.start(features, probabilities)
    before = prototypes.sums.clone()
    prototypes.update(features[:4], probabilities[:4])
    expected = 0.75 * before + 0.25 * weighted_sums(features[:4], probabilities[:4]) / 4
    torch.testing.assert_close(prototypes.sums, expected)


def test_the_first_batch_counts_whole_where_nobody_was_seen_before(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.75)
    prototypes.update(features[:0], probabilities[:0])
    assert not prototypes.sums.any()
    prototypes.update(features[:4], probabilities[:4])
    torch.testing.assert_close(prototypes.sums, weighted_sums(features[:4], probabilities[:4]) / 4)


def test_the_gradient_is_that_of_the_batchs_own_means(people):
    features, probabilities = people
    prototypes = Prototypes(C, D, 0.9)
    prototypes.start(features, probabilities)
    a, p = features[:5].clone().requires_grad_(), probabilities[:5].clone().requires_grad_()
    weights = torch.randn(2, C, D + 1, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((prototypes.update(a, p) * weights).sum(), (a, p))
    positive = torch.einsum("kc,kd->cd", p, a) / 5
    negative = torch.einsum("kc,kd->cd", 1 - p, a) / 5
    means = torch.stack([positive, negative])
    shares = torch.stack([p.mean(dim=0), (1 - p).mean(dim=0)])
    expected = torch.autograd.grad((means * weights[..., :-1]).sum() + (shares * weights[..., -1]).sum(), (a, p))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nobody_changes_nothing_and_has_a_gradient(people):
    prototypes = Prototypes(C, D, 0.9)
    prototypes.start(*people)
    before = {name: value.clone() for name, value in prototypes.state_dict().items()}
    features = torch.zeros(0, D, requires_grad=True)
    prototypes.update(features, torch.zeros(0, C)).sum().backward()
    assert features.grad.shape == (0, D)
    assert all(torch.equal(value, before[name]) for name, value in prototypes.state_dict().items())


def test_thresholds_return_to_the_rate_when_features_move():
    """People whose similarities shift: the share above the threshold comes back to what it was."""
    generator = torch.Generator().manual_seed(0)
    prototypes = Prototypes(1, D, 0.9)

    def draw(count, shift):
        has = (torch.rand(count, 1, generator=generator) < 0.2).float()
        features = torch.rand(count, D, generator=generator) + has * torch.eye(D)[:1] * 2
        return features + shift * torch.eye(D)[:1], has

    prototypes.start(*draw(2000, 0.0))
    shifted = draw(2000, 1.0)
    assert (prototypes.scores(shifted[0]) > 0).float().mean() > 0.4
    for _ in range(100):
        prototypes.update(*draw(20, 1.0))
    assert (prototypes.scores(shifted[0]) > 0).float().mean() == pytest.approx(0.2, abs=0.07)
