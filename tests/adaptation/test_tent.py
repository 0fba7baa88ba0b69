"""Entropy minimisation, against its gradient written out."""

import pytest
import torch
from online_cases import batch, method, trained_detector

from microg_da.adaptation.online import person_entropy


@pytest.fixture
def detector():
    return trained_detector()


def test_the_answer_is_that_of_batch_statistics_before_the_first_step(detector):
    tent = method("tent", detector)
    clips = batch((2, 1), low=100)
    tent.start_test(detector)
    found = tent.predict(detector, clips).logits
    tent.end_test(detector)
    for module in detector.modules():
        module.training = isinstance(module, torch.nn.BatchNorm3d)
    expected = detector(clips.frames, clips.boxes, clips.clip_index).logits
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_first_step_of_adam_goes_against_the_sign_of_the_gradient(detector):
    """d H / d z = -z p (1 - p), followed back by autograd from there; Adam's first step has the length lr."""
    tent = method("tent", detector, lr=1e-3)
    clips = batch((2, 1), low=100)
    tent.start_test(detector)
    scales = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    before = [parameter.clone() for parameter in scales]
    logits = detector(clips.frames, clips.boxes, clips.clip_index).logits
    p = torch.sigmoid(logits.detach())
    expected = torch.autograd.grad(logits, scales, grad_outputs=-logits.detach() * p * (1 - p) / len(logits))
    tent.predict(detector, clips)
    for old, new, gradient in zip(before, scales, expected, strict=True):
        large = gradient.abs() > 1e-5
        assert torch.allclose((new - old)[large], -1e-3 * gradient.sign()[large], atol=2e-6)
    tent.end_test(detector)


def test_scales_and_shifts_of_batch_norm_change_and_nothing_else_frozen_ones_too(detector):
    tent = method("tent", detector)
    before = {name: parameter.clone() for name, parameter in detector.named_parameters()}
    tent.start_test(detector)
    tent.predict(detector, batch())
    norms = {
        f"{name}.{kind}"
        for name, module in detector.named_modules()
        if isinstance(module, torch.nn.BatchNorm3d)
        for kind in ("weight", "bias")
    }
    moved = {name for name, parameter in detector.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= norms
    assert any("stem" in name for name in moved)
    tent.end_test(detector)


def test_entropy_falls_on_a_batch_that_is_seen_again_and_again(detector):
    tent = method("tent", detector, lr=0.01, steps=3)
    clips = batch((2, 2, 1), low=100)
    tent.start_test(detector)
    entropies = [float(person_entropy(tent.predict(detector, clips).logits).mean()) for _ in range(5)]
    tent.end_test(detector)
    assert entropies[-1] < 0.8 * entropies[0]
    assert entropies == sorted(entropies, reverse=True)
