"""The gradient at the top of the climb, against a detector that was moved there by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F

from microg_da.adaptation.base import create_adaptation, forward_both
from microg_da.adaptation.sdat import climbed
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey

C = 3


def clips(domain, counts=(2, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, count in enumerate(counts):
        frames = torch.randint(0, 256, (3, 4, 32, 32), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[2.0, 2, 30, 28]]).repeat(count, 1)
        clip = Clip(frames, boxes, boxes / 32, ClipKey(f"v{number}", 1))
        labels = (torch.rand(count, C, generator=generator) > 0.5).float()
        made.append(clip.with_labels(labels) if domain == "source" else clip)
    return collate_clips(made, domain)


@pytest.fixture
def detector():
    torch.manual_seed(0)
    made = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, freeze=1, width=[4, 4, 4, 4])
    torch.nn.init.normal_(made.head.projection.weight, std=1.0)
    return made.train()


def supervised(detector, source, target):
    return F.binary_cross_entropy_with_logits(forward_both(detector, source, target)[0].logits, source.labels)


def test_gradients_are_those_of_a_detector_that_was_moved(detector):
    source, target = clips("source"), clips("target", seed=1)
    sdat = create_adaptation("sdat", {"radius": 0.3}, feature_dim=detector.feature_dim, num_classes=C)
    cdan = create_adaptation("cdan", feature_dim=detector.feature_dim, num_classes=C)
    cdan.load_state_dict(sdat.state_dict())
    moved = copy.deepcopy(detector)
    trained = [parameter for parameter in moved.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(supervised(moved, source, target), trained)
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.data += 0.3 * gradient / length
    expected = cdan.step_losses(moved, source, target, 0.5)
    losses = sdat.step_losses(detector, source, target, 0.5)
    assert set(losses) == set(expected) == {"supervised", "domain"}
    for name, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(float(expected[name].detach()), rel=1e-4)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    for mine, theirs in zip(detector.parameters(), moved.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-3)
    for mine, theirs in zip(sdat.parameters(), cdan.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-3)


def test_weights_stay_where_they_are_and_the_loss_is_higher_up_there(detector):
    source, target = clips("source"), clips("target", seed=1)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    sdat = create_adaptation("sdat", {"radius": 0.05}, feature_dim=detector.feature_dim, num_classes=C)
    above = float(sdat.step_losses(detector, source, target, 0.5)["supervised"].detach())
    assert all(torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True))
    assert above > float(supervised(detector, source, target).detach())


def test_a_climb_has_its_radius(detector):
    source, target = clips("source"), clips("target", seed=1)
    found = climbed(detector, supervised(detector, source, target), 0.7)
    named = dict(detector.named_parameters())
    assert set(found) == {name for name, parameter in named.items() if parameter.requires_grad}
    steps = torch.cat([(value - named[name]).flatten() for name, value in found.items()])
    assert float(steps.detach().norm()) == pytest.approx(0.7, rel=1e-4)


def test_without_labelled_people_nothing_moves(detector):
    source, target = clips("source", (0, 0)), clips("target", seed=1)
    found = climbed(detector, forward_both(detector, source, target)[0].logits.sum(), 0.7)
    named = dict(detector.named_parameters())
    assert all(torch.equal(value, named[name]) for name, value in found.items())


def test_a_radius_must_be_positive():
    with pytest.raises(InputError, match="radius"):
        create_adaptation("sdat", {"radius": 0.0}, feature_dim=3, num_classes=C)
