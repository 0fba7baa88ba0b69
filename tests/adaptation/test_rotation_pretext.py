"""The pretext: its loss against scikit-learn, its labels against the pictures, and features that learn from it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.rotation_pretext import turn_loss
from microg_da.types import ClipBatch, ClipKey, Prediction

C, SIZE = 3, 16


class Corners(nn.Module):
    """Features are a linear map of a 2 × 2 picture."""

    def __init__(self):
        super().__init__()
        self.backbone, self.projection = nn.Linear(4, 5), nn.Linear(5, C)
        self.seen = []

    def forward(self, frames, boxes, clip_index):
        self.seen.append(frames)
        picture = nn.functional.adaptive_avg_pool2d(frames.float().mean(dim=(1, 2)), 2) / 255
        features = torch.relu(self.backbone(picture.flatten(1)[clip_index]))
        return Prediction(self.projection(features), features)


def batch(count, labelled=True, people=1):
    """Clips whose upper left quarter is bright."""
    frames = torch.randint(0, 60, (count, 3, 2, SIZE, SIZE), dtype=torch.uint8)
    frames[..., : SIZE // 2, : SIZE // 2] += 180
    index = torch.arange(count).repeat_interleave(people)
    boxes = torch.tensor([[4.0, 4, 12, 12]]).repeat(len(index), 1)
    keys = tuple(ClipKey(f"v_{number}", 1) for number in range(count))
    labels = torch.zeros(len(index), C) if labelled else None
    batch = ClipBatch(frames, boxes, index, boxes / SIZE, keys, "source" if labelled else "target")
    return batch if labels is None else batch.with_labels(labels)


def method_with(**arguments):
    return create_adaptation("rotation_pretext", arguments, feature_dim=5, num_classes=C)


def test_the_loss_and_its_gradient():
    logits = torch.randn(6, 4, requires_grad=True)
    turns, seen = torch.tensor([0, 1, 2, 3, 3, 1]), torch.tensor([1.0, 1, 0, 1, 1, 1])
    loss = turn_loss(logits, turns, seen)
    loss.backward()
    p = logits.detach().softmax(dim=1)
    kept = seen.bool()
    assert float(loss.detach()) == pytest.approx(
        log_loss(turns[kept], logits.detach()[kept].double().softmax(dim=1).numpy(), labels=range(4)), abs=1e-5
    )
    expected = (p - torch.eye(4)[turns]) * seen[:, None] / 5
    assert torch.allclose(logits.grad, expected, atol=1e-6)


@pytest.mark.parametrize("seen", [torch.zeros(2), torch.zeros(0)])
def test_the_loss_without_people_is_zero_and_has_a_gradient(seen):
    logits = torch.randn(len(seen), 4, requires_grad=True)
    loss = turn_loss(logits, torch.zeros(len(seen), dtype=torch.int64), seen)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def direction(frames):
    """The angle in degrees, clockwise, at which the bright quarter lies as seen from the centre."""
    picture = frames.float().mean(dim=(1, 2))
    places = torch.arange(SIZE) - (SIZE - 1) / 2
    y, x = (picture * places[:, None]).sum(dim=(1, 2)), (picture * places).sum(dim=(1, 2))
    return torch.rad2deg(torch.atan2(y, x))


def test_two_views_of_clips_of_both_domains_and_an_unchanged_source_in_one_pass(monkeypatch):
    torch.manual_seed(0)
    detector, method, told = Corners(), method_with(), []
    monkeypatch.setattr(
        "microg_da.adaptation.rotation_pretext.turn_loss",
        lambda logits, turns, seen: told.append(turns) or logits.sum(),
    )
    source, target = batch(12, people=2), batch(40, labelled=False)
    method.step_losses(detector, source, target, 0.5)
    (frames,), (turns,) = detector.seen, told
    assert len(frames) == 12 + 2 * (10 + 10)
    assert torch.equal(frames[:12], source.frames)
    # Where the bright quarter went tells how far a view was turned.
    first, second = direction(frames[12:]).chunk(2)
    turned = ((second - first) / 90).round().long() % 4
    assert set(turned.tolist()) == {0, 1, 2, 3}
    people = torch.cat([torch.arange(10).repeat_interleave(2), torch.arange(10, 20)])
    assert torch.equal(turns, turned[people])
    assert first.std() > 60  # the first view is rolled by any angle, in the source too
    assert first[:10].std() > 60


def test_the_features_learn_by_what_two_views_differ_in_both_domains():
    torch.manual_seed(0)
    detector, method = Corners(), method_with(weight=1.0, hidden_dim=32)
    optimizer = torch.optim.Adam([*detector.parameters(), *method.parameters()], lr=0.02)
    values = []
    for _ in range(250):
        losses = method.step_losses(detector, batch(16), batch(64, labelled=False), 0.5)
        optimizer.zero_grad()
        losses["pretext"].backward()
        optimizer.step()
        values.append(float(losses["pretext"].detach()))
    assert np.mean(values[:3]) > 1.0  # chance is log 4
    assert np.mean(values[-10:]) < 0.7


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_every_weight_has_a_gradient_whoever_is_in_the_batch(of_source, of_target):
    detector, method = Corners(), method_with()
    losses = method.step_losses(detector, batch(of_source), batch(of_target, labelled=False), 0.5)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in [*detector.parameters(), *method.parameters()])
