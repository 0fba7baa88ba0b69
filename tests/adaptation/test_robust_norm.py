"""Normalisation by moving statistics, against torch's own at both ends and the formula between."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microg_da.adaptation.robust_norm import robust_statistics


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = nn.BatchNorm3d(4).eval()
    for value in (made.weight.data, made.bias.data, made.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(made.running_var, 0.5, 2.0)
    return made


def values():
    return torch.randn(3, 4, 2, 5, 6, generator=torch.Generator().manual_seed(1)).mul(3).add(1).requires_grad_()


def gradients(output, inputs):
    return torch.autograd.grad((output * torch.arange(output.numel()).view_as(output)).sum(), inputs)


@pytest.mark.parametrize("momentum", [0.0, 0.05, 1.0])
def test_values_and_gradients_are_those_of_the_paper(layer, momentum):
    theirs, x, again = copy.deepcopy(layer), values(), values()
    flat = again.transpose(0, 1).flatten(1)
    mean = (1 - momentum) * theirs.running_mean + momentum * flat.mean(dim=1)
    variance = (1 - momentum) * theirs.running_var + momentum * flat.var(dim=1, correction=0)
    normalised = (flat - mean[:, None]) / (variance + theirs.eps).sqrt()[:, None]
    expected = (theirs.weight[:, None] * normalised + theirs.bias[:, None]).view(4, 3, 2, 5, 6).transpose(0, 1)
    with robust_statistics([layer], momentum):
        found = layer(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for mine, other in zip(
        gradients(found, [x, layer.weight, layer.bias]),
        gradients(expected, [again, theirs.weight, theirs.bias]),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(layer.running_mean, mean.detach())
    torch.testing.assert_close(layer.running_var, variance.detach())


def test_at_the_ends_it_is_torchs_batch_norm(layer):
    x, plain = values(), copy.deepcopy(layer)
    with robust_statistics([layer], 0.0):
        torch.testing.assert_close(layer(x), plain(x))
    with robust_statistics([layer], 1.0):
        expected = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_after_the_block_a_layer_is_as_before_with_other_statistics(layer):
    x = values()
    with robust_statistics([layer], 0.3):
        layer(x)
    expected = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match="5D"), robust_statistics([layer], 0.3):
        layer(x[0])
    torch.testing.assert_close(layer(x), expected)


def test_layers_without_scale_and_shift():
    plain, x = nn.BatchNorm1d(3, affine=False).eval(), torch.randn(5, 3)
    with robust_statistics([plain], 1.0):
        torch.testing.assert_close(plain(x), (x - x.mean(0)) / (x.var(0, correction=0) + plain.eps).sqrt())
