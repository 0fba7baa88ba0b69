"""Maximum mean discrepancy, value and gradient against an explicit computation."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.mmd import multi_kernel_mmd
from microg_da.types import Prediction

D = 6


def cloud(count, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, D, generator=generator) + shift).requires_grad_()


def explicit_mmd(x, y, kernels):
    """Value and gradient by loops over pairs, in double precision."""
    x, y = x.detach().double().numpy(), y.detach().double().numpy()
    points, n, m = np.concatenate([x, y]), len(x), len(y)
    total = n + m
    pairs = sorted(((points[i] - points[j]) ** 2).sum() for i in range(total) for j in range(i))
    median = pairs[(len(pairs) - 1) // 2]
    value, gradient = 0.0, np.zeros_like(points)
    for i in range(total):
        for j in range(total):
            if i == j:
                continue
            weight = -1 / (n * m)
            if i < n and j < n:
                weight = 1 / (n * (n - 1))
            elif i >= n and j >= n:
                weight = 1 / (m * (m - 1))
            for power in range(kernels):
                scale = median * 2.0 ** (power - (kernels - 1) / 2)
                kernel = np.exp(-((points[i] - points[j]) ** 2).sum() / scale)
                value += weight * kernel / kernels
                # Twice: once as the first of the pair, once as the second.
                gradient[i] += 2 * weight * kernel / kernels * -2 * (points[i] - points[j]) / scale
    return value, gradient[:n], gradient[n:]


@pytest.mark.parametrize(("of_source", "of_target", "kernels"), [(5, 7, 5), (2, 2, 1), (2, 9, 4)])
def test_value_and_gradient_equal_the_explicit_ones(of_source, of_target, kernels):
    source, target = cloud(of_source), cloud(of_target, 1, shift=0.7)
    loss = multi_kernel_mmd(source, target, kernels)
    loss.backward()
    value, of_x, of_y = explicit_mmd(source, target, kernels)
    assert float(loss.detach()) == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(source.grad, of_x, atol=1e-6)
    np.testing.assert_allclose(target.grad, of_y, atol=1e-6)


def test_without_a_shift_the_estimate_is_zero_in_the_mean():
    estimates = torch.stack([multi_kernel_mmd(cloud(6, seed), cloud(9, 1000 + seed)) for seed in range(400)]).detach()
    assert abs(float(estimates.mean())) < 3 * float(estimates.std()) / 20
    assert (estimates < 0).any()


def test_it_grows_with_the_shift_and_not_with_the_scale():
    values = [float(multi_kernel_mmd(cloud(40), cloud(40, 1, shift)).detach()) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    scaled = multi_kernel_mmd(100 * cloud(40), 100 * cloud(40, 1, 1.0))
    assert float(scaled.detach()) == pytest.approx(values[2], rel=1e-4)


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 1), (0, 0), (1, 1)])
def test_too_few_people_cost_nothing(of_source, of_target):
    source, target = cloud(of_source), cloud(of_target)
    loss = multi_kernel_mmd(source, target)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not source.grad.any()
    assert not target.grad.any()


def test_people_who_look_all_the_same_differ_in_nothing():
    source, target = torch.ones(3, D, requires_grad=True), torch.ones(4, D, requires_grad=True)
    loss = multi_kernel_mmd(source, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(source.grad).all()


def test_it_moves_one_cloud_onto_the_other():
    torch.manual_seed(0)
    method = create_adaptation("mmd", {"weight": 2.0}, feature_dim=D, num_classes=3)
    target, moved = cloud(40, 1, shift=1.5).detach(), torch.zeros(D, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=0.05)
    for step in range(100):
        source = cloud(40, 2 + step).detach() + moved
        optimizer.zero_grad()
        predictions = (Prediction(torch.zeros(40, 3), features) for features in (source, target))
        method.losses(*predictions, torch.zeros(40, 3), 0.5)["mmd"].backward()
        optimizer.step()
    torch.testing.assert_close(moved.detach(), target.mean(0), atol=0.3, rtol=0)
