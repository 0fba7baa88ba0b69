"""Mixtures of two Gaussians, against scikit-learn's."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.mixture import GaussianMixture

from microg_da.adaptation.gaussian_mixture import TwoGaussians, fit_two_gaussians, squared_frechet_distance

REGULARISATION = 1e-3


def probabilities(count, rare, seed=0):
    """Sigmoid outputs of a class: most people near 0, some near 1, a few between."""
    random = np.random.default_rng(seed)
    high = random.random(count) < rare
    logits = np.where(high, random.normal(2.0, 1.0, count), random.normal(-3.5, 1.0, count))
    return torch.tensor(1 / (1 + np.exp(-logits)), dtype=torch.float32)


def fitted_by_sklearn(values):
    points = values.double().numpy()[:, None]
    fit = GaussianMixture(2, reg_covar=REGULARISATION, tol=1e-10, max_iter=2000, random_state=0).fit(points)
    order = fit.means_[:, 0].argsort()
    columns = fit.weights_[order], fit.means_[order, 0], fit.covariances_[order, 0, 0]
    return [torch.tensor(column, dtype=torch.float32) for column in columns], fit.predict_proba(points)[:, order]


@pytest.mark.parametrize(("count", "rare"), [(1000, 0.06), (1000, 0.5), (40, 0.3), (20, 0.1)])
def test_converged_fits_are_those_of_sklearn(count, rare):
    values = probabilities(count, rare)
    ours = fit_two_gaussians(values[:, None], steps=300, min_variance=REGULARISATION)
    theirs, _ = fitted_by_sklearn(values)
    for quantity, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(quantity[:, 0], expected, atol=1e-4, rtol=1e-3)


def test_the_usual_number_of_steps_is_enough_for_what_a_classifier_says():
    values = probabilities(1000, 0.06)
    usual, long = (fit_two_gaussians(values[:, None], **steps) for steps in ({}, {"steps": 300}))
    torch.testing.assert_close(usual.means, long.means, atol=5e-3, rtol=0)
    torch.testing.assert_close(usual.variances, long.variances, atol=2e-3, rtol=0)


def test_samples_are_fitted_each_by_itself():
    samples = torch.stack([probabilities(50, rare, seed) for seed, rare in enumerate((0.1, 0.3, 0.5))], dim=1)
    together = fit_two_gaussians(samples)
    for index in range(3):
        alone = fit_two_gaussians(samples[:, index : index + 1])
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[:, index], part[:, 0])


def test_gradients_are_those_of_weighted_moments():
    values = probabilities(60, 0.3)[:, None].requires_grad_()
    mixture = fit_two_gaussians(values, steps=300, min_variance=REGULARISATION)
    (theirs, shares), x = fitted_by_sklearn(values.detach()[:, 0]), values.detach().numpy()[:, 0]
    for component in range(2):
        share, mean = shares[:, component], theirs[1][component].numpy()
        of_mean, of_variance = (
            torch.autograd.grad(quantity[component, 0], values, retain_graph=True)[0][:, 0]
            for quantity in (mixture.means, mixture.variances)
        )
        np.testing.assert_allclose(of_mean, share / share.sum(), atol=1e-4)
        np.testing.assert_allclose(of_variance, 2 * share * (x - mean) / share.sum(), atol=1e-4)


def test_the_distance_is_that_of_one_dimensional_gaussians():
    """The general formula with matrix square roots, for covariances of one number."""
    first, second = (TwoGaussians(*torch.rand(3, 2, 4).add(0.1)) for _ in range(2))
    expected = np.empty((2, 4))
    for index in np.ndindex(2, 4):
        a, s = float(first.means[index]), np.array([[float(first.variances[index])]])
        b, t = float(second.means[index]), np.array([[float(second.variances[index])]])
        expected[index] = (a - b) ** 2 + np.trace(s + t - 2 * sqrtm(s @ t)).real
    np.testing.assert_allclose(squared_frechet_distance(first, second), expected, atol=1e-5)


@pytest.mark.parametrize("values", [[0.3], [0.3] * 5, [0.0] * 20, [0.0, 1.0], [0.0] * 19 + [1.0], [1.0, 1.0, 0.999]])
def test_samples_with_hardly_anything_to_fit(values):
    values = torch.tensor(values)[:, None].requires_grad_()
    mixture = fit_two_gaussians(values)
    other = TwoGaussians(*torch.tensor([[[0.5], [0.5]], [[0.1], [0.9]], [[0.01], [0.02]]]))
    squared_frechet_distance(mixture, other).sum().backward()
    assert torch.isfinite(values.grad).all()
    assert (mixture.means[0] <= mixture.means[1]).all()
    assert (mixture.variances >= REGULARISATION * 0.999).all()
    torch.testing.assert_close(mixture.weights.sum(dim=0), torch.ones(1))


def test_a_fit_is_random_in_nothing_and_blind_to_order():
    values = probabilities(30, 0.2)
    first = fit_two_gaussians(values[:, None])
    second = fit_two_gaussians(values.flip(0)[:, None])
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)
