"""Two classifiers: who climbs, who descends, and what becomes of target people far from the source."""

import copy

import pytest
import torch
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.mcd import classifier_discrepancy
from microg_da.types import ClipBatch, ClipKey, Prediction

C, D = 3, 4


class Linear(nn.Module):
    """A backbone and a classifier of one linear layer each; a person is the first numbers of a clip."""

    feature_dim = D

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(D, D)
        self.head = nn.Module()
        self.head.projection = nn.Linear(D, C)

    def forward(self, frames, boxes, clip_index):
        features = self.backbone(frames.flatten(1)[:, :D][clip_index])
        return Prediction(self.head.projection(features), features)


def batch(count, domain, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(count, 3, 1, 2, 2, generator=generator)
    boxes = torch.tensor([[0.0, 0, 1, 1]]).repeat(count, 1)
    keys = tuple(ClipKey(f"{domain}_{index}", 1) for index in range(count))
    made = ClipBatch(frames, boxes, torch.arange(count), boxes, keys, domain)
    labels = (torch.rand(count, C, generator=generator) < 0.5).float()
    return made.with_labels(labels) if domain == "source" else made


def method_with(**arguments):
    torch.manual_seed(1)
    return create_adaptation("mcd", arguments, feature_dim=D, num_classes=C)


def test_classifiers_climb_and_features_descend():
    torch.manual_seed(0)
    detector, method = Linear(), method_with(weight=1.0)
    target = batch(6, "target")
    losses = method.step_losses(detector, batch(5, "source", 1), target, 1.0)
    detector_copy, second = copy.deepcopy(detector), copy.deepcopy(method.second)
    features = detector_copy.backbone(target.frames.flatten(1)[:, :D])
    plain = (detector_copy.head.projection(features).sigmoid() - second(features).sigmoid()).abs().mean()
    strength = float(losses["discrepancy"].detach() / plain.detach())
    assert strength == pytest.approx(1, abs=1e-3)  # at the end of a stage
    parts = [(detector.backbone, detector_copy.backbone, 1.0)]
    parts += [(detector.head.projection, detector_copy.head.projection, -1.0), (method.second, second, -1.0)]
    for ours, theirs, sign in parts:
        mine = torch.autograd.grad(losses["discrepancy"], ours.weight, retain_graph=True)[0]
        expected = torch.autograd.grad(plain, theirs.weight, retain_graph=True)[0]
        torch.testing.assert_close(mine, sign * strength * expected)


def test_both_classifiers_learn_the_labels_of_the_source():
    torch.manual_seed(0)
    detector, method = Linear(), method_with()
    source = batch(5, "source", 1)
    losses = method.step_losses(detector, source, batch(6, "target"), 0.5)
    seen = detector(source.frames, None, source.clip_index)
    torch.testing.assert_close(losses["supervised"], multilabel_bce(seen.logits, source.labels))
    torch.testing.assert_close(losses["second"], multilabel_bce(method.second(seen.features), source.labels))


def test_features_learn_what_classifiers_agree_about():
    """The classifiers are held: features of the target move to where both say the same."""
    torch.manual_seed(0)
    detector, method = Linear(), method_with(weight=1.0)
    target = batch(32, "target")
    optimizer = torch.optim.Adam(detector.backbone.parameters(), lr=0.02)
    values = []
    for _ in range(100):
        loss = method.step_losses(detector, batch(4, "source"), target, 1.0)["discrepancy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_every_weight_has_a_gradient_whoever_is_in_the_batch(of_source, of_target):
    detector, method = Linear(), method_with()
    sum(method.step_losses(detector, batch(of_source, "source"), batch(of_target, "target"), 0.5).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in [*detector.parameters(), *method.parameters()])


def test_the_same_classifier_does_not_disagree_with_itself():
    logits = torch.randn(4, C)
    assert classifier_discrepancy(logits, logits) == 0
    assert classifier_discrepancy(torch.full((2, C), 50.0), torch.full((2, C), -50.0)) == 1
