"""Fit of two Gaussians to the low and the high values of a sample, and the distance between two such fits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class TwoGaussians(NamedTuple):
    """Mixtures of two Gaussians, one for each of ``M`` samples. The first component has the lower mean.

    Attributes:
        weights: ``(2, M)``, summing to 1 over components.
        means: ``(2, M)``.
        variances: ``(2, M)``.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor


def fit_two_gaussians(values: Tensor, steps: int = 30, min_variance: float = 1e-3) -> TwoGaussians:
    """Fit by expectation–maximisation, starting from a split at the middle of each sample's range.

    Responsibilities have no gradient. Weights, means and variances carry the gradient of the values through the last
    maximisation.

    Args:
        values: ``(N, M)``, M samples of N values each, N > 0.
        steps: number of repetitions of expectation and maximisation.
        min_variance: added to each variance, as in the paper; keeps the gradient of components of equal values finite.
    """
    with torch.no_grad():
        low, high = values.aminmax(dim=0)
        upper = (values > 0.5 * (low + high)).to(values.dtype)
        shares = _never_empty(torch.stack([1.0 - upper, upper]))
        for _ in range(steps):
            shares = _never_empty(_expectation(values, _maximisation(values, shares, min_variance)))
    mixture = _maximisation(values, shares, min_variance)
    order = mixture.means.detach().argsort(dim=0)
    return TwoGaussians(*(quantity.gather(0, order) for quantity in mixture))


def squared_frechet_distance(first: TwoGaussians, second: TwoGaussians) -> Tensor:
    """Return ``(2, M)`` squared Fréchet (2-Wasserstein) distances between the components of two fits."""
    deviations = first.variances.sqrt() - second.variances.sqrt()
    return (first.means - second.means).square() + deviations.square()


def _maximisation(values: Tensor, shares: Tensor, min_variance: float) -> TwoGaussians:
    count = shares.sum(dim=1)
    means = (shares * values).sum(dim=1) / count
    variances = (shares * (values - means[:, None]).square()).sum(dim=1) / count + min_variance
    return TwoGaussians(count / len(values), means, variances)


def _expectation(values: Tensor, mixture: TwoGaussians) -> Tensor:
    """Return the responsibility ``(2, N, M)`` of each component for each value."""
    weights, means, variances = (quantity[:, None] for quantity in mixture)
    log_density = -0.5 * ((values - means).square() / variances + torch.log(2.0 * math.pi * variances))
    return torch.softmax(torch.log(weights) + log_density, dim=0)


def _never_empty(shares: Tensor, least: float = 1e-6) -> Tensor:
    # A component without responsibility, as when all values are equal, would have no mean.
    return shares.clamp(least, 1.0 - least)
