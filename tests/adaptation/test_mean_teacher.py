"""What the student of a mean teacher sees, is told and learns."""

import copy

import pytest
import torch
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.losses import multilabel_bce
from microg_da.types import ClipBatch, ClipKey, Prediction

SIZE = 16


class Profiles(nn.Module):
    """A linear detector on the mean brightness of rows and of columns: what it learns upright is no use rolled."""

    feature_dim = 2 * SIZE

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(2 * SIZE, 2)
        nn.init.zeros_(self.projection.weight)
        self.seen = []

    def forward(self, frames, boxes, clip_index):
        self.seen.append(frames)
        picture = frames.float().mean(dim=(1, 2)) / 255
        features = torch.cat([picture.mean(dim=2), picture.mean(dim=1)], dim=1)[clip_index]
        return Prediction(self.projection(features), features)


def bars(count, *, upright=True, labelled=True):
    """Action 0 shows a bar through the middle, action 1 two bars beside it; the bars lie unless the camera rolls."""
    labels = torch.eye(2)[torch.randint(0, 2, (count,))]
    rows = torch.zeros(count, SIZE)
    rows[:, 6:10] = labels[:, :1]
    rows[:, 3:5] = rows[:, 11:13] = labels[:, 1:]
    picture = rows[:, :, None].expand(-1, -1, SIZE)
    picture = picture if upright else picture.transpose(1, 2)
    frames = (picture * 150 + torch.randint(0, 90, picture.shape)).to(torch.uint8)
    boxes = torch.tensor([[2.0, 2, 14, 14]]).repeat(count, 1)
    batch = ClipBatch(
        frames[:, None, None].repeat(1, 3, 2, 1, 1),
        boxes,
        torch.arange(count),
        boxes / SIZE,
        tuple(ClipKey(f"v_{index}", 1) for index in range(count)),
        "source" if labelled else "target",
    )
    return (batch.with_labels(labels) if labelled else batch), labels


def method_for(detector, **arguments):
    # In this world a rolled bar is a bar of the other class, so that the teacher must look at the clip as it is.
    arguments = {"teacher_rolls": 1, **arguments}
    method = create_adaptation("mean_teacher", arguments, feature_dim=detector.feature_dim, num_classes=2)
    method.before_training(detector, [], [])
    return method


def accuracy(detector, **how):
    batch, labels = bars(400, **how)
    with torch.no_grad():
        logits = detector(batch.frames, batch.boxes, batch.clip_index).logits
    return float((logits.argmax(dim=1) == labels.argmax(dim=1)).float().mean())


def train(detector, method=None, steps=150):
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.03)
    for step in range(steps):
        source, target = bars(24)[0], bars(24, labelled=False)[0]
        if method is None:
            losses = {
                "supervised": multilabel_bce(detector(source.frames, None, source.clip_index).logits, source.labels)
            }
        else:
            losses = method.step_losses(detector, source, target, step / steps)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        if method is not None:
            method.after_step(detector)


def test_from_a_teacher_that_knows_upright_people_the_student_learns_rolled_ones():
    torch.manual_seed(0)
    detector = Profiles()
    train(detector)
    assert accuracy(detector) > 0.95
    assert accuracy(detector, upright=False) < 0.7
    # The stage is short: a teacher that averages 1,000 models would be the source model to its end.
    method = method_for(detector, decay=0.9)
    train(detector, method)
    method.after_training(detector)
    assert accuracy(detector) > 0.95
    assert accuracy(detector, upright=False) > 0.95


def test_the_teacher_sees_the_weak_view_and_the_student_source_and_strong_view_in_one_pass():
    torch.manual_seed(0)
    detector = Profiles()
    method = method_for(detector)
    source, target = bars(3)[0], bars(5, labelled=False)[0]
    method.step_losses(detector, source, target, 0.5)
    (weak,) = method.teacher.network.seen
    (both,) = detector.seen
    assert torch.equal(weak, target.frames)
    assert torch.equal(both[:3], source.frames)
    assert all(not torch.equal(strong, plain) for strong, plain in zip(both[3:], target.frames, strict=True))


def test_the_losses_are_those_of_the_teachers_labels():
    torch.manual_seed(0)
    detector = Profiles()
    nn.init.normal_(detector.projection.weight)
    # Neither rolled nor recoloured, the strong view is the weak one, and the loss can be written down.
    method = method_for(
        detector, weight=0.7, ramp_up=0.5, strong_rotation=0.0, strong_colour=0.0, positive=0.6, negative=1.0
    )
    source, target = bars(20)[0], bars(30, labelled=False)[0]
    losses = method.step_losses(detector, source, target, progress=0.25)
    gradient = torch.autograd.grad(losses["pseudo_label"], detector.projection.weight)[0]

    answer = detector(target.frames, target.boxes, target.clip_index)
    p, x = answer.logits.sigmoid().detach(), answer.features
    truth, weight = torch.zeros(30, 2), torch.zeros(30, 2)
    for column in range(2):
        rate = float(source.labels[:, column].mean())
        order = p[:, column].argsort(descending=True).tolist()
        truth[order[: int(0.6 * rate * 30)], column] = 1
        weight[:, column] = truth[:, column]
        weight[order[-(-round(rate * 300) // 10) + 1 :], column] = 1
    scale = 0.7 * 2.718281828 ** (-5 * 0.25) / 60
    expected = -(weight * (truth * p.log() + (1 - truth) * (1 - p).log())).sum() * scale
    assert float(losses["pseudo_label"].detach()) == pytest.approx(float(expected), rel=1e-4)
    assert torch.allclose(gradient, (weight * (p - truth)).T @ x * scale, atol=1e-6)
    supervised = multilabel_bce(detector(source.frames, None, source.clip_index).logits, source.labels)
    assert torch.allclose(losses["supervised"], supervised)


def test_the_same_seed_gives_the_same_losses():
    detector = Profiles()
    nn.init.normal_(detector.projection.weight)
    source, target = bars(8)[0], bars(40, labelled=False)[0]
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        values.append(method_for(copy.deepcopy(detector)).step_losses(detector, source, target, 0.9))
    assert torch.equal(values[0]["pseudo_label"], values[1]["pseudo_label"])
    assert float(values[0]["pseudo_label"].detach()) > 0


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_every_weight_has_a_gradient_whoever_is_in_the_batch(of_source, of_target):
    detector = Profiles()
    losses = method_for(detector).step_losses(detector, bars(of_source)[0], bars(of_target, labelled=False)[0], 0.5)
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in detector.parameters())
