"""Domain-adversarial training, values and gradients against an independent computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.dann import balanced_domain_loss, reversal_schedule, reverse_gradient
from microg_da.types import Prediction

D, C = 6, 4


def people(count, seed=0):
    features = torch.randn(count, D, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    return Prediction(torch.zeros(count, C), features)


def test_the_gradient_is_reversed_and_scaled():
    x = torch.randn(3, D, requires_grad=True)
    assert torch.equal(reverse_gradient(x, 0.3), x)
    (reverse_gradient(x, 0.3) ** 2).sum().backward()
    assert torch.allclose(x.grad, -0.3 * 2 * x)


def test_the_schedule_of_the_paper():
    assert reversal_schedule(0) == 0
    assert reversal_schedule(0.5) == pytest.approx(math.tanh(2.5))  # 2σ(10p) − 1 = tanh(5p)
    assert reversal_schedule(1) == pytest.approx(math.tanh(5))


def test_the_loss_equals_weighted_cross_entropy():
    source, target = torch.randn(5), torch.randn(2)
    logits = torch.cat([source, target])
    truth = torch.tensor([0.0] * 5 + [1.0] * 2)
    weight = torch.tensor([0.5 / 5] * 5 + [0.5 / 2] * 2)
    expected = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
    assert balanced_domain_loss(source, target) == pytest.approx(float(expected), abs=1e-6)


def test_gradients_through_the_whole_method_equal_the_explicit_ones():
    method = create_adaptation("dann", {"weight": 0.4, "gamma": 8.0, "hidden_dim": 5}, feature_dim=D, num_classes=C)
    source, target = people(4, 1), people(3, 2)
    method.losses(source, target, torch.zeros(4, C), progress=0.3)["domain"].backward()
    strength = 0.4 * (2 / (1 + math.exp(-8 * 0.3)) - 1)

    a, b = people(4, 1).features, people(3, 2).features
    loss = 0.5 * F.binary_cross_entropy_with_logits(method.domain_classifier(a)[:, 0], torch.zeros(4))
    loss = loss + 0.5 * F.binary_cross_entropy_with_logits(method.domain_classifier(b)[:, 0], torch.ones(3))
    grads = torch.autograd.grad(loss, [a, b, *method.parameters()])
    assert torch.allclose(source.features.grad, -strength * grads[0], atol=1e-7)
    assert torch.allclose(target.features.grad, -strength * grads[1], atol=1e-7)
    for parameter, expected in zip(method.parameters(), grads[2:], strict=True):
        # The domain classifier itself learns to tell the domains apart: its gradient is not reversed.
        assert torch.allclose(parameter.grad, expected, atol=1e-7)


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_domains_without_people(of_source, of_target):
    method = create_adaptation("dann", feature_dim=D, num_classes=C)
    source, target = people(of_source), people(of_target)
    loss = method.losses(source, target, torch.zeros(of_source, C), 0.5)["domain"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.features.grad).all() for p in (source, target))


def test_the_two_domains_become_hard_to_tell_apart():
    """With the reversal, a linear map of two shifted clouds learns to drop the direction of the shift."""
    torch.manual_seed(0)
    method = create_adaptation("dann", {"weight": 1.0, "gamma": 100.0}, feature_dim=2, num_classes=C)
    project = torch.nn.Linear(4, 2, bias=False)
    shift = torch.tensor([3.0, 0, 0, 0])
    optimizer = torch.optim.Adam([*project.parameters(), *method.parameters()], lr=1e-2)
    for _ in range(300):
        a, b = project(torch.randn(64, 4)), project(torch.randn(64, 4) + shift)
        optimizer.zero_grad()
        method.losses(Prediction(a, a), Prediction(b, b), torch.zeros(64, C), 1.0)["domain"].backward()
        optimizer.step()
    weights = project.weight.detach()
    assert (weights[:, 0].norm() / weights.norm()) < 0.25
