"""Losses and quantities that several methods share."""

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli

from microg_da.adaptation.losses import bernoulli_entropy, nothing


def test_entropies_are_those_of_scipy():
    logits = torch.linspace(-6, 6, 25).view(5, 5)
    expected = bernoulli(torch.sigmoid(logits.double()).numpy()).entropy()
    np.testing.assert_allclose(bernoulli_entropy(logits), expected, atol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -200.0, 200.0, 1e4])
def test_the_entropy_of_a_certain_prediction_is_zero_and_its_gradient_too(logit):
    logits = torch.tensor([logit], requires_grad=True)
    entropy = bernoulli_entropy(logits)
    entropy.sum().backward()
    assert float(entropy.detach()) == pytest.approx(0)
    assert float(logits.grad) == pytest.approx(0)


def test_the_gradient_of_the_entropy():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bernoulli_entropy, logits)


@pytest.mark.parametrize("value", [1.0, torch.finfo(torch.float16).max])
@pytest.mark.parametrize("people", [0, 3])
def test_nothing_is_zero_with_a_gradient_of_zero_even_where_a_sum_would_overflow(people, value):
    tensors = [torch.full((people, 2), value, dtype=torch.float16, requires_grad=True) for _ in range(2)]
    loss = nothing(*tensors)
    loss.backward()
    assert float(loss) == 0
    assert all(torch.equal(tensor.grad, torch.zeros_like(tensor)) for tensor in tensors)
