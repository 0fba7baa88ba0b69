"""Class-wise alignment against domain-adversarial losses of the people of each class, values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.dann import balanced_domain_loss
from microg_da.adaptation.sada import class_wise_domain_loss
from microg_da.types import Prediction

D, C = 6, 4


def people(count, seed=0, classes=C):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, D, generator=generator, requires_grad=True)
    return Prediction(torch.randn(count, classes, generator=generator, requires_grad=True), features)


def some_labels(count, seed=3, classes=C):
    return (torch.rand(count, classes, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def explicit_loss(classifiers, source, labels, target):
    """The sums of the docstring, pair by pair."""
    entropies, masses = [0.0, 0.0], [0.0, 0.0]
    for column, classifier in enumerate(classifiers):
        for domain, (prediction, weights) in enumerate(((source, labels), (target, target.logits.detach().sigmoid()))):
            for feature, weight in zip(prediction.features, weights[:, column], strict=True):
                truth = torch.tensor([float(domain)])
                entropy = F.binary_cross_entropy_with_logits(classifier(feature[None])[:, 0], truth)
                entropies[domain] = entropies[domain] + weight * entropy
                masses[domain] = masses[domain] + weight
    return 0.5 * sum(entropy / mass for entropy, mass in zip(entropies, masses, strict=True))


def test_gradients_through_the_whole_method_equal_the_explicit_ones():
    torch.manual_seed(0)
    sada = create_adaptation("sada", {"weight": 0.4, "gamma": 8.0, "hidden_dim": 5}, feature_dim=D, num_classes=C)
    source, target, labels = people(5, 1), people(3, 2), some_labels(5)
    loss = sada.losses(source, target, labels, progress=0.3)["domain"]
    loss.backward()
    again = people(5, 1), people(3, 2)
    expected = explicit_loss(sada.domain_classifiers, again[0], labels, again[1])
    grads = torch.autograd.grad(expected, [*(prediction.features for prediction in again), *sada.parameters()])
    strength = 0.4 * math.tanh(4 * 0.3)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(source.features.grad, -strength * grads[0])
    torch.testing.assert_close(target.features.grad, -strength * grads[1])
    assert target.logits.grad is None
    for parameter, gradient in zip(sada.parameters(), grads[2:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_of_one_class_that_everybody_has_it_is_the_domain_adversarial_loss():
    source, target = torch.randn(5, 1), torch.randn(3, 1)
    ours = class_wise_domain_loss(source, target, torch.ones(5, 1), torch.full((3, 1), 0.7))
    torch.testing.assert_close(ours, balanced_domain_loss(source[:, 0], target[:, 0]))


def test_classes_that_exclude_one_another_are_aligned_group_by_group():
    """With sure answers, the loss is that of MADA's groups: each person meets the classifier of their class alone."""
    source, target = torch.randn(4, 2), torch.randn(4, 2)
    of = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    ours = class_wise_domain_loss(source, target, *(F.one_hot(classes, 2).float() for classes in of))
    own = [logits[torch.arange(4), classes] for logits, classes in zip((source, target), of, strict=True)]
    torch.testing.assert_close(ours, (F.softplus(own[0]).mean() + F.softplus(-own[1]).mean()) / 2)


def test_of_fifty_classes_only_the_fourteen_that_occur_have_a_classifier():
    rates = [0.0 if index % 7 in range(5) else 0.1 for index in range(50)]
    assert rates.count(0.0) == 36
    sada = create_adaptation("sada", feature_dim=D, num_classes=50, class_rates=rates)
    assert len(sada.domain_classifiers) == 14
    labels = some_labels(6, classes=50) * (torch.tensor(rates) > 0)
    found = []
    for opinion in (0.0, 9.0):
        source, target = people(6, 1, 50), people(5, 2, 50)
        logits = target.logits.detach() + opinion * (torch.tensor(rates) == 0)
        loss = sada.losses(source, Prediction(logits, target.features), labels, 0.5)["domain"]
        found.append((loss.detach(), *torch.autograd.grad(loss, [source.features, target.features])))
    for without, with_opinions in zip(*found, strict=True):
        assert torch.equal(without, with_opinions)
    assert all(gradient.abs().sum() > 0 for gradient in found[0][1:])


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_domains_without_people_or_without_labels(of_source, of_target, value):
    sada = create_adaptation("sada", feature_dim=D, num_classes=C)
    source, target = people(of_source), people(of_target)
    loss = sada.losses(source, target, torch.full((of_source, C), value), 0.5)["domain"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(prediction.features.grad).all() for prediction in (source, target))
    assert all(parameter.grad is not None for parameter in sada.parameters())


def test_a_shift_of_two_classes_in_opposite_directions_is_seen():
    """Over all people the features agree; those of each class have moved, which no classifier of all people sees."""
    torch.manual_seed(0)

    def loss_after_training(name):
        method = create_adaptation(name, {"weight": 0.0}, feature_dim=2, num_classes=2)
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
        for _ in range(150):
            sides = [torch.randint(0, 2, (128,)) for _ in range(2)]
            predictions = [
                Prediction(20.0 * F.one_hot(side, 2) - 10, sign * (2.0 * side[:, None] - 1) + 0.1 * torch.randn(128, 2))
                for sign, side in zip((1, -1), sides, strict=True)
            ]
            optimizer.zero_grad()
            loss = method.losses(*predictions, F.one_hot(sides[0], 2).float(), 1.0)["domain"]
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    assert loss_after_training("dann") > 0.6
    assert loss_after_training("sada") < 0.1
