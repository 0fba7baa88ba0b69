"""Checkpointed stages train as plain ones do, and keep less."""

from __future__ import annotations

import copy

import pytest
import torch

from microg_da.models import create_detector
from microg_da.models.activation_checkpointing import checkpoint_stages

BOXES, INDEX = torch.tensor([[3.0, 5.0, 30.0, 61.0], [10.0, 0.0, 64.0, 64.0]]), torch.tensor([0, 1])


def step(detector):
    """One forward and backward pass; bytes kept between them."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        prediction = detector(torch.randn(2, 3, 8, 64, 64), BOXES, INDEX)
        loss = prediction.logits.square().sum()
    between = sum(kept.values())
    loss.backward()
    return prediction.logits.detach(), between


@pytest.mark.parametrize("name", ["r2plus1d_tiny", "x3d_s_13x6", "slowfast_r50_8x8", "mvit_v2_s_16x4"])
def test_same_step_less_memory(name):
    torch.manual_seed(0)
    plain = create_detector(name, 7)
    lean = copy.deepcopy(plain)
    checkpoint_stages(lean.backbone)
    lean = copy.deepcopy(lean)  # as a teacher is made of a student
    assert lean.state_dict().keys() == plain.state_dict().keys()
    (expected, much), (logits, little) = step(plain), step(lean)
    torch.testing.assert_close(logits, expected)
    assert little < 0.7 * much
    for (parameter_name, ours), theirs in zip(lean.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda text, at=parameter_name: f"{at}: {text}")
    for (buffer_name, ours), theirs in zip(lean.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), buffer_name


def test_twice_is_once():
    detector = create_detector("r2plus1d_tiny", 7)
    checkpoint_stages(detector.backbone)
    kinds = [type(module) for module in detector.modules()]
    checkpoint_stages(detector.backbone)
    assert [type(module) for module in detector.modules()] == kinds
