"""Convolutions arranged for a CPU give the values and gradients of plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from microg_da.models import create_detector
from microg_da.models.adapters import LowRankFrameConv3d, LowRankTemporalConv3d, add_low_rank
from microg_da.models.convolutions import DepthwiseConv3d, FrameConv3d, TemporalConv3d, arrange_for_cpu

LAYOUTS = (torch.channels_last_3d, torch.contiguous_format)
SHAPES = {
    "stride 1": ((3, 3, 3), (1, 1, 1), (1, 1, 1), (5, 9, 8)),
    "stride 2, odd and even sides": ((3, 3, 3), (1, 2, 2), (1, 1, 1), (5, 9, 8)),
    "in time alone": ((5, 1, 1), (1, 1, 1), (2, 0, 0), (3, 7, 6)),
    "uneven padding": ((3, 3, 3), (1, 1, 2), (0, 1, 2), (5, 6, 7)),
    "fewer frames than the kernel": ((5, 3, 3), (1, 1, 1), (2, 1, 1), (1, 4, 4)),
    "no padding in time": ((3, 3, 3), (1, 2, 1), (0, 0, 0), (4, 5, 6)),
}
FRAMES = {
    "pointwise": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    "strided pointwise": ((1, 1, 1), (1, 2, 2), (0, 0, 0), (1, 1, 1)),
    "spatial": ((1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
    "dilated": ((1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2)),
    "stem": ((1, 7, 7), (1, 2, 2), (0, 3, 3), (1, 1, 1)),
}


def both(layer, x, layout=torch.channels_last_3d):
    """Output, gradients of input and parameters: of the arranged layer, and of the plain one in float64."""
    arranged, plain = copy.deepcopy(layer), copy.deepcopy(layer).double()
    arrange_for_cpu(arranged)
    sides = []
    for network, inputs in ((arranged, x.contiguous(memory_format=layout)), (plain, x.double())):
        inputs = inputs.clone().requires_grad_()
        output = network(inputs)
        weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
        (output * weights.to(output)).sum().backward()
        sides.append([output.detach(), inputs.grad, *(parameter.grad for parameter in network.parameters())])
    return arranged, *sides


def assert_same(ours, plain):
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels last", "contiguous"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_depthwise_values_and_gradients(shape, layout):
    kernel, stride, padding, size = shape
    torch.manual_seed(0)
    layer = nn.Conv3d(6, 6, kernel, stride, padding, groups=6, bias=False)
    arranged, ours, plain = both(layer, torch.randn(2, 6, *size), layout)
    assert type(arranged) is DepthwiseConv3d
    assert_same(ours, plain)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels last", "contiguous"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", FRAMES.values(), ids=FRAMES)
def test_frames_values_and_gradients(shape, bias, layout):
    kernel, stride, padding, dilation = shape
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 6, kernel, stride, padding, dilation, bias=bias)
    arranged, ours, plain = both(layer, torch.randn(2, 4, 3, 9, 8), layout)
    assert type(arranged) is FrameConv3d
    assert_same(ours, plain)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels last", "contiguous"])
@pytest.mark.parametrize(
    ("kernel", "padding", "frames"), [(3, 1, 5), (3, 1, 1), (5, 2, 2), (3, 0, 4), (3, 2, 4), (2, 1, 3)]
)
def test_temporal_values_and_gradients(kernel, padding, frames, layout):
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 6, (kernel, 1, 1), padding=(padding, 0, 0), bias=False)
    arranged, ours, plain = both(layer, torch.randn(2, 4, frames, 3, 4), layout)
    assert type(arranged) is TemporalConv3d
    assert_same(ours, plain)


def test_one_gradient_at_a_time():
    layer = nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=False)
    arrange_for_cpu(layer)
    x = torch.randn(1, 4, 3, 5, 5)
    layer(x).sum().backward()  # an input that needs none, as the first layer's
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None


def test_what_is_not_covered_stays_plain():
    others = nn.ModuleList([
        nn.Conv3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.Conv3d(4, 4, 3, padding=1, stride=2, groups=4, bias=False),
        nn.Conv3d(4, 4, 3, padding=4, groups=4, bias=False),
        nn.Conv3d(4, 4, 3, padding=1, groups=4),
        nn.Conv3d(4, 4, (1, 3, 3), stride=(2, 1, 1)),
        nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), padding_mode="reflect"),
    ])  # fmt: skip
    arrange_for_cpu(others)
    assert {type(layer) for layer in others} == {nn.Conv3d}


def test_autocast_is_left_to_torch():
    layer = nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=False)
    arrange_for_cpu(layer)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(1, 4, 3, 5, 5))
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_a_whole_x3d_trains_as_a_plain_one():
    """One step of the whole network in training mode, against the same network of plain layers in float64."""
    torch.manual_seed(0)
    ours = create_detector("x3d_s_13x6", 5, dropout=0.0)
    assert sum(type(layer) is DepthwiseConv3d for layer in ours.modules()) == 27
    plain = copy.deepcopy(ours).double()
    for layer in plain.modules():
        if isinstance(layer, nn.Conv3d):
            layer.__class__ = nn.Conv3d
    frames, boxes, index = torch.randn(2, 3, 4, 64, 64), torch.tensor([[3.0, 5, 50, 61]] * 2), torch.arange(2)
    for network, kind in ((ours, torch.float32), (plain, torch.float64)):
        network(frames.to(kind), boxes.to(kind), index).logits.square().sum().backward()
    gradients = dict(plain.named_parameters())
    total = torch.stack([parameter.grad.norm() for parameter in gradients.values()]).norm()
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad.double() - gradients[name].grad).norm() / total
        assert difference < 1e-4, f"{name}: {difference}"


@pytest.mark.parametrize(
    ("kernel", "padding", "kind"), [(1, 0, LowRankFrameConv3d), ((3, 1, 1), (1, 0, 0), LowRankTemporalConv3d)]
)
def test_low_rank_updates_of_arranged_layers(kernel, padding, kind):
    layer = nn.Conv3d(16, 16, kernel, padding=padding, bias=False)
    arrange_for_cpu(layer)
    x = torch.randn(2, 16, 3, 5, 5).contiguous(memory_format=torch.channels_last_3d)
    before = layer(x)
    add_low_rank(layer, 2)
    assert type(layer) is kind
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-5)
    nn.init.ones_(layer.low_rank_up)
    layer(x).sum().backward()
    assert layer.low_rank_down.grad.abs().sum() > 0
