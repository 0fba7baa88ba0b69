"""Correlation alignment, value and gradient against the paper's formulas."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.coral import covariance_distance, mean_distance
from microg_da.types import Prediction

D = 5
PLAIN = {"queue": 0, "normalise": False}


def cloud(count, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(count, D, generator=generator)).requires_grad_()


def explicit(x, y):
    """The distance by numpy's covariance, and the gradient of each side (equations 4 and 5 of the paper)."""
    x, y = x.detach().double().numpy(), y.detach().double().numpy()
    difference = np.cov(x, rowvar=False) - np.cov(y, rowvar=False)
    gradients = [sign * (z - z.mean(0)) @ difference / (D**2 * (len(z) - 1)) for sign, z in ((1.0, x), (-1.0, y))]
    return np.linalg.norm(difference) ** 2 / (4 * D**2), *gradients


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("of_source", "of_target"), [(6, 9), (2, 3)])
def test_value_and_gradient_equal_the_explicit_ones(of_source, of_target, autocast):
    source, target = cloud(of_source), cloud(of_target, 1, scale=2.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = covariance_distance(source, target)
    loss.backward()
    value, of_x, of_y = explicit(source, target)
    assert float(loss.detach()) == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(source.grad, of_x, atol=1e-5)
    np.testing.assert_allclose(target.grad, of_y, atol=1e-5)


def test_the_distance_of_means():
    source, target = cloud(6), cloud(4, 1)
    mean_distance(source, target).backward()
    x, y = source.detach().numpy(), target.detach().numpy()
    difference = x.mean(0) - y.mean(0)
    assert float(mean_distance(source, target).detach()) == pytest.approx((difference**2).mean(), rel=1e-5)
    np.testing.assert_allclose(source.grad, np.tile(2 * difference / D / 6, (6, 1)), atol=1e-6)
    np.testing.assert_allclose(target.grad, np.tile(-2 * difference / D / 4, (4, 1)), atol=1e-6)


def test_a_covariance_does_not_see_a_shift_and_a_mean_does():
    source = cloud(20)
    assert float(covariance_distance(source, source + 3).detach()) == pytest.approx(0, abs=1e-8)
    assert float(mean_distance(source, source + 3).detach()) == pytest.approx(9, rel=1e-5)


@pytest.mark.parametrize("distance", [covariance_distance, mean_distance])
@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0)])
def test_domains_without_people(distance, of_source, of_target):
    source, target = cloud(of_source), cloud(of_target)
    loss = distance(source, target)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not source.grad.any()
    assert not target.grad.any()


def test_one_person_has_a_mean_and_no_covariance():
    source, target = cloud(1), cloud(5, 1)
    assert float(covariance_distance(source, target).detach()) == 0
    assert float(mean_distance(source, target).detach()) > 0


@pytest.mark.parametrize(("mean_weight", "names"), [(0.0, ["coral"]), (0.5, ["coral", "mean"])])
def test_the_mean_is_compared_if_it_has_a_weight(mean_weight, names):
    method = create_adaptation(
        "coral", {"weight": 2.0, "mean_weight": mean_weight, **PLAIN}, feature_dim=D, num_classes=3
    )
    source, target = cloud(6), cloud(4, 1)
    predictions = [Prediction(torch.zeros(len(x), 3), x) for x in (source, target)]
    losses = method.losses(*predictions, torch.zeros(6, 3), 0.5)
    assert list(losses) == names
    torch.testing.assert_close(losses["coral"], 2 * covariance_distance(source, target))
    if mean_weight:
        torch.testing.assert_close(losses["mean"], 0.5 * mean_distance(source, target))


def test_a_linear_map_learns_the_covariance_of_the_other_domain():
    torch.manual_seed(0)
    colour = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    layer = torch.nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        covariance_distance(layer(torch.randn(256, 2)), torch.randn(256, 2) @ colour.T).backward()
        optimizer.step()
    learned = layer.weight.detach() @ layer.weight.detach().T
    torch.testing.assert_close(learned, colour @ colour.T, atol=0.5, rtol=0)
