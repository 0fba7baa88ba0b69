"""Losses in their single-label or binary special case against the formulas of the papers and of their programs.

One class of a sigmoid is two classes of a softmax, with logits z and 0. The formulas are written down here for a
softmax. Where pytorch-adapt is installed (``pip install --no-deps pytorch-adapt pytorch-metric-learning``; its pinned
torchmetrics does not fit this package's), its losses are compared too.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from microg_da.adaptation.cdan import bernoulli_condition, certainty_weights, multilinear_map
from microg_da.adaptation.coral import covariance_distance
from microg_da.adaptation.dann import balanced_domain_loss, reverse_gradient
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.adaptation.mcc import class_confusion
from microg_da.adaptation.mcd import classifier_discrepancy
from microg_da.adaptation.mmd import multi_kernel_mmd
from microg_da.adaptation.online import person_entropy
from microg_da.adaptation.prototypes import prototype_labels
from microg_da.adaptation.sar import climb, descend
from microg_da.adaptation.source_free import bernoulli_divergence
from microg_da.validation.confidence import bnm, information_maximisation
from microg_da.validation.observations import Observed

K, D = 12, 6


def random(*shape, seed=0, scale=2.0):
    values = scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.float().requires_grad_()


def two_classes(logits):
    """``(K, 2)`` logits of a softmax that says what the sigmoid of ``(K, 1)`` says."""
    return torch.cat([logits, torch.zeros_like(logits)], dim=1)


def softmax_entropy(logits):
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def same(ours, theirs, *inputs, rtol=1e-4, atol=1e-6):
    """Value and gradients with respect to the inputs."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs, retain_graph=True),
        torch.autograd.grad(theirs, inputs, retain_graph=True),
        strict=True,
    ):
        assert mine.abs().sum() > 0
        torch.testing.assert_close(mine, other, rtol=rtol, atol=atol)


def test_tent_and_shot_make_predictions_sure_by_the_entropy_of_the_softmax():
    logits = random(K, 1)
    expected = softmax_entropy(two_classes(logits)).mean()
    same(person_entropy(logits).mean(), expected, logits)
    same(bernoulli_entropy(logits).mean(), expected, logits)


def test_shots_prior_is_minimal_where_the_papers_diversity_is():
    """For two classes of equal prior both terms are least for a mean of one half, and grow with the distance from it.

    Diversity is minus the entropy of the mean prediction, that is, KL(mean ‖ prior) up to a constant. The term here is
    the reverse divergence; to second order about the prior they are the same.
    """
    shift = torch.tensor(0.02)
    ours = bernoulli_divergence(torch.tensor(0.5), 0.5 + shift)
    mean = torch.stack([0.5 + shift, 0.5 - shift])
    papers = (mean * mean.log()).sum() + math.log(2)
    torch.testing.assert_close(ours, papers, rtol=1e-2, atol=0)
    far = torch.tensor([0.1, 0.3, 0.49])
    assert (bernoulli_divergence(torch.full((3,), 0.5), far).diff() < 0).all()


def test_shots_labels_are_those_of_the_nearest_centroid_where_as_many_people_are_asked_for():
    features, logits = random(40, D), random(40, 1, seed=1)
    features = features - features.mean(dim=0)  # the labels are those of centred features
    p = two_classes(logits).softmax(dim=1).detach()
    centroids = (p.T @ features.detach()) / p.sum(dim=0)[:, None]
    distances = 1 - F.normalize(features.detach(), dim=1) @ F.normalize(centroids, dim=1).T
    nearest = distances.argmin(dim=1)
    first = (nearest == 0).float()
    labels = prototype_labels(features.detach(), p[:, :1], first.mean()[None], rounds=1)
    assert 0 < first.sum() < 40
    assert torch.equal(labels[:, 0], first)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_minimum_class_confusion(temperature):
    logits = random(K, 1)
    p = (two_classes(logits) / temperature).softmax(dim=1)
    weight = 1 + torch.exp(-softmax_entropy(two_classes(logits) / temperature)).detach()
    weight = K * weight / weight.sum()
    confusion = (weight[:, None] * p).T @ p
    confusion = confusion / confusion.sum(dim=1, keepdim=True)
    expected = (confusion.sum() - confusion.trace()) / 2
    same(class_confusion(logits, temperature), expected, logits)


def test_confusion_by_mass_is_that_of_each_class_weighted_by_its_mean_probability():
    logits = random(K, 3)
    each = torch.stack([class_confusion(logits[:, [column]]) for column in range(3)])
    mass = logits.detach().sigmoid().mean(dim=0)
    same(class_confusion(logits, by_mass=True), (mass * each).sum() / mass.sum(), logits)


def test_deep_coral():
    source, target = random(K, D), random(9, D, seed=1)

    def covariance(x):
        ones = torch.ones(1, len(x)) @ x
        return (x.T @ x - ones.T @ ones / len(x)) / (len(x) - 1)  # equation 2 of the paper

    expected = (covariance(source) - covariance(target)).norm() ** 2 / (4 * D**2)
    same(covariance_distance(source, target), expected, source, target, rtol=1e-3)


def test_domain_adversarial_loss_and_its_reversed_gradient():
    source, target = random(K, D), random(K, D, seed=1)
    classifier = torch.nn.Linear(D, 1)
    answers = [classifier(reverse_gradient(x, 0.3))[:, 0] for x in (source, target)]
    ours = balanced_domain_loss(*answers)
    plain = torch.cat([classifier(x)[:, 0] for x in (source, target)])
    expected = F.binary_cross_entropy_with_logits(plain, torch.cat([torch.zeros(K), torch.ones(K)]))
    same(ours, expected, classifier.weight, classifier.bias)
    for mine, theirs in zip(
        torch.autograd.grad(ours, [source, target]), torch.autograd.grad(expected, [source, target]), strict=True
    ):
        torch.testing.assert_close(mine, -0.3 * theirs)


def test_a_conditional_discriminator_sees_what_one_of_the_softmax_product_sees():
    """A linear map of features ⊗ (p, 1 - p) is one of features ⊗ (1, p), so the discriminators have one capacity."""
    features, logits = random(K, D), random(K, 1, seed=1)
    weight = random(2, D, seed=2)
    p = two_classes(logits).softmax(dim=1).detach()
    theirs = torch.bmm(p[:, :, None], features[:, None]).flatten(1) @ weight.flatten()
    ours = multilinear_map(features, bernoulli_condition(logits.detach()))
    mine = torch.stack([weight[1], weight[0] - weight[1]]).flatten()
    same((ours @ mine).square().mean(), theirs.square().mean(), features, weight)


def test_entropy_weights_of_cdan():
    source, target = random(K, 1), random(7, 1, seed=1)
    domain = [random(K, seed=2), random(7, seed=3)]
    weights = [1 + torch.exp(-softmax_entropy(two_classes(logits))).detach() for logits in (source, target)]
    weights = torch.cat([weight / weight.sum() for weight in weights])
    truth = torch.cat([torch.zeros(K), torch.ones(7)])
    entropies = F.binary_cross_entropy_with_logits(torch.cat(domain), truth, reduction="none")
    expected = (weights * entropies).sum() / weights.sum()
    ours = balanced_domain_loss(*domain, certainty_weights(source), certainty_weights(target))
    same(ours, expected, *domain)


def test_classifier_discrepancy_is_the_l1_distance_of_two_softmaxes():
    first, second = random(K, 1), random(K, 1, seed=1)
    expected = (two_classes(first).softmax(1) - two_classes(second).softmax(1)).abs().mean()
    same(classifier_discrepancy(first, second), expected, first, second)


def observed(logits):
    return Observed(None, logits, torch.zeros(len(logits), 1), logits, torch.zeros(len(logits), 1))


def test_batch_nuclear_norm():
    logits = random(K, 1).detach()
    singular = torch.linalg.svdvals(two_classes(logits).double().softmax(dim=1))
    assert bnm(observed(logits)) * K**0.5 == pytest.approx(float(singular.sum()), rel=1e-6)


def test_information_maximisation():
    logits = random(K, 1).detach()
    p = two_classes(logits).double().softmax(dim=1)
    expected = -(p.mean(0) * p.mean(0).log()).sum() - softmax_entropy(two_classes(logits).double()).mean()
    assert information_maximisation(observed(logits)) == pytest.approx(float(expected), rel=1e-6)


def test_sar_takes_the_gradient_at_the_sharpest_point_near_by():
    """Equation 4 of the paper on a quadratic: ε = ρ g / |g|, and the gradient is that at w + ε."""
    matrix = torch.diag(torch.tensor([1.0, 3.0]))
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    (0.5 * weight @ matrix @ weight).backward()
    gradient = matrix @ weight.detach()
    before = climb([weight], 0.05)
    torch.testing.assert_close(weight.detach(), torch.tensor([2.0, -1.0]) + 0.05 * gradient / gradient.norm())
    descend(before)
    assert weight.tolist() == [2.0, -1.0]


def test_sars_threshold_is_the_papers_for_classes_of_equal_rate():
    """Of two equally likely classes the uninformed entropy is ln 2, of which the paper takes 0.4."""
    rates = torch.tensor([0.5])
    assert float(bernoulli_entropy(torch.logit(rates)).sum()) == pytest.approx(math.log(2))


@pytest.fixture(scope="module")
def layers():
    return pytest.importorskip("pytorch_adapt.layers", reason="pytorch-adapt is not installed")


def test_pytorch_adapts_coral(layers):
    source, target = random(K, D), random(9, D, seed=1)
    same(covariance_distance(source, target), layers.CORALLoss()(source, target), source, target, rtol=1e-3)


def test_pytorch_adapts_confusion(layers):
    logits = random(K, 1)
    same(class_confusion(logits, 2.5), layers.MCCLoss(T=2.5)(two_classes(logits)), logits)


def test_pytorch_adapts_entropy(layers):
    logits = random(K, 1)
    same(person_entropy(logits).mean(), layers.EntropyLoss()(two_classes(logits)), logits)


def test_pytorch_adapts_nuclear_norm(layers):
    logits = random(K, 1).detach()
    assert bnm(observed(logits)) / K**0.5 == pytest.approx(-float(layers.BNMLoss()(two_classes(logits))), rel=1e-4)


def test_pytorch_adapts_discrepancy(layers):
    first, second = random(K, 1), random(K, 1, seed=1)
    theirs = layers.MCDLoss()(two_classes(first), two_classes(second))
    same(classifier_discrepancy(first, second), theirs, first, second)


def test_pytorch_adapts_discrepancy_of_means_at_one_bandwidth(layers):
    """Their estimate is biased by what people share with themselves; the difference of the two is known."""
    source, target = random(K, D, scale=1.0), random(K, D, seed=1, scale=1.0)
    points = torch.cat([source, target]).detach()
    squares = (points[:, None] - points[None]).square().sum(dim=2)
    median = squares[tuple(torch.triu_indices(2 * K, 2 * K, 1))].median()
    kernel = torch.exp(-squares / median)
    blocks = kernel[:K, :K], kernel[K:, K:], kernel[:K, K:]
    unbiased = sum((block.sum() - K) / (K * (K - 1)) for block in blocks[:2]) - 2 * blocks[2].mean()
    biased = blocks[0].mean() + blocks[1].mean() - 2 * blocks[2].mean()
    torch.testing.assert_close(multi_kernel_mmd(source, target, kernels=1).detach(), unbiased, rtol=1e-4, atol=1e-6)
    assert biased > unbiased
