"""A folded detector says what the detector says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from microg_da.models import create_detector
from microg_da.models.folding import fold_batch_norm

BOXES = torch.tensor([[3.0, 5.0, 30.0, 61.0], [10.0, 0.0, 64.0, 64.0], [1.0, 2.0, 20.0, 30.0]])
INDEX = torch.tensor([0, 1, 1])
LAYERS_LEFT = {
    "x3d_s_13x6": 0, "slow_r50_8x8": 0, "slowfast_r50_8x8": 0, "r2plus1d_tiny": 0, "r2plus1d_micro": 0,
    "i3d_nln_r50_8x8": 0,
}  # fmt: skip


def norms(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def trained(name, **options):
    """A detector whose statistics and weights are not those of a new one."""
    torch.manual_seed(0)
    detector = create_detector(name, 7, **options)
    with torch.no_grad():
        for layer in norms(detector):
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.uniform_(-0.2, 0.2)
            layer.momentum = 1.0
        detector(torch.randn(2, 3, 8, 64, 64), BOXES, INDEX)
    return detector.eval()


@pytest.mark.parametrize("name", LAYERS_LEFT)
@torch.no_grad()
def test_the_same_logits(name):
    detector = trained(name)
    before = len(norms(detector))
    frames = torch.randint(0, 256, (2, 3, 8, 64, 64), dtype=torch.uint8)
    folded = fold_batch_norm(detector, num_frames=8, side=32)
    assert len(norms(folded)) == LAYERS_LEFT[name]
    assert len(norms(detector)) == before > 0
    if "nln" in name:
        # Non-local blocks with random weights make logits of ten thousand, which older kernels round otherwise.
        detector, frames = detector.double(), frames.double() / 255
        folded = fold_batch_norm(detector, num_frames=8, side=32)
    expected = detector(frames, BOXES, INDEX)
    for ours, theirs in zip(folded(frames, BOXES, INDEX), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(theirs.abs().max())))


@torch.no_grad()
def test_layers_that_are_called_for_every_roll_are_folded_once():
    detector = trained("r2plus1d_tiny", roll_pooling="c4")
    frames = torch.randn(2, 3, 8, 64, 64)
    folded = fold_batch_norm(detector, num_frames=8, side=64)
    assert not norms(folded)
    torch.testing.assert_close(
        folded(frames, BOXES, INDEX).logits, detector(frames, BOXES, INDEX).logits, rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_layers_after_something_else_stay():
    detector = trained("r2plus1d_tiny")
    detector.backbone.stem[0] = nn.Sequential(detector.backbone.stem[0], nn.ReLU())
    frames = torch.randn(2, 3, 8, 64, 64)
    folded = fold_batch_norm(detector, num_frames=8, side=64)
    assert len(norms(folded)) == 1
    torch.testing.assert_close(
        folded(frames, BOXES, INDEX).logits, detector(frames, BOXES, INDEX).logits, rtol=0, atol=1e-4
    )
