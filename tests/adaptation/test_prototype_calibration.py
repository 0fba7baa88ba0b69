"""Ambiguous pairs found by hand, calibration and diversity against explicit formulas, and what they do together."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, log_loss
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.prototype_calibration import (
    ambiguous,
    calibration_loss,
    group_probabilities,
    prototype_similarity,
)
from microg_da.types import Prediction

GROUPS = (0, 0, 0, 1, 1)
MEMBERSHIP = torch.tensor([[True, False]] * 3 + [[False, True]] * 2)
C, D = 5, 6


def method(**arguments):
    return create_adaptation("prototype_calibration", arguments, feature_dim=D, num_classes=C, class_groups=GROUPS)


@pytest.fixture
def survey():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(60, D, generator=generator), torch.randn(60, C, generator=generator) - 1


def test_a_group_is_there_unless_all_its_classes_are_not():
    p = torch.rand(4, C)
    expected = np.stack([1 - np.prod(1 - p[:, :3].numpy(), axis=1), 1 - np.prod(1 - p[:, 3:].numpy(), axis=1)], axis=1)
    np.testing.assert_allclose(group_probabilities(p, MEMBERSHIP), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("predicted", "present", "positives", "negatives"),
    [
        ([0, 3], [True, True], [], []),
        ([0, 3], [True, False], [3], []),
        ([0], [True, True], [], [4]),
        ([], [True, False], [], [1]),
        ([3], [True, False], [3], [1]),
        ([0, 2, 4], [False, False], [0, 2, 4], []),
        ([], [False, False], [], []),
    ],
)
def test_ambiguous_pairs(predicted, present, positives, negatives):
    scores = torch.tensor([[0.1, 0.9, 0.5, -3.0, -2.0]])
    row = torch.zeros(1, C, dtype=torch.bool)
    row[0, predicted] = True
    false_positives, false_negatives = ambiguous(row, torch.tensor([present]), scores, MEMBERSHIP)
    assert false_positives[0].nonzero().flatten().tolist() == positives
    assert false_negatives[0].nonzero().flatten().tolist() == negatives


def test_a_pair_is_never_ambiguous_in_both_ways_and_groups_without_classes_have_none():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(200, C, generator=generator) > 0.6
    present = torch.rand(200, 3, generator=generator) > 0.5
    membership = torch.cat([MEMBERSHIP[:, :1], torch.zeros(C, 1, dtype=torch.bool), MEMBERSHIP[:, 1:]], dim=1)
    positives, negatives = ambiguous(predicted, present, torch.randn(200, C, generator=generator), membership)
    assert not (positives & negatives).any()
    assert not (negatives & predicted).any()
    assert negatives.sum(dim=1).max() == 2
    missed = present & ~(predicted.float() @ membership.float()).bool()
    assert torch.equal((negatives.float() @ membership.float()).bool()[:, [0, 2]], missed[:, [0, 2]])


def test_calibration_is_the_cross_entropy_of_the_right_prototype():
    margins = torch.randn(6, C, generator=torch.Generator().manual_seed(1)).requires_grad_()
    positives, negatives = torch.zeros(6, C, dtype=torch.bool), torch.zeros(6, C, dtype=torch.bool)
    positives[0, 1] = positives[2, 3] = positives[5, 0] = negatives[1, 2] = negatives[4, 4] = True
    loss = calibration_loss(margins, positives, negatives, 0.5)
    p = expit(margins.detach().numpy().astype(float) / 0.5)
    expected = log_loss([1, 1], p[negatives], labels=[0, 1]) + log_loss([0, 0, 0], p[positives], labels=[0, 1])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)

    loss.backward()
    gradient = np.where(negatives, (p - 1) / 2, 0) / 0.5 + np.where(positives, p / 3, 0) / 0.5
    np.testing.assert_allclose(margins.grad, gradient, rtol=1e-4, atol=1e-7)


def test_nothing_ambiguous_costs_nothing():
    for people in (0, 3):
        margins = torch.randn(people, C, requires_grad=True)
        none = torch.zeros(people, C, dtype=torch.bool)
        loss = calibration_loss(margins, none, none, 0.1)
        loss.backward()
        assert loss == 0
        assert not margins.grad.any()


def test_similarity_of_prototypes_within_groups():
    prototypes = torch.nn.functional.normalize(torch.rand(C, D), dim=1)
    matrix = cosine_similarity(prototypes)
    pairs = [matrix[a, b] for a in range(C) for b in range(C) if a != b and GROUPS[a] == GROUPS[b]]
    assert float(prototype_similarity(prototypes, MEMBERSHIP)) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert prototype_similarity(prototypes[:2], torch.eye(2, dtype=torch.bool)) == 0


def test_diversity_moves_prototypes_apart(survey):
    """Features free to move: under diversity alone the classes of a group become less alike."""
    features, logits = survey
    calibration = method(
        calibration_weight=0.0, entropy_weight=0.0, prior_weight=0.0, pseudo_label_weight=0.0, diversity_weight=1.0
    )
    calibration.start(features, torch.sigmoid(logits))
    moving = features.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], lr=0.02)
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = calibration.labelled_losses(Prediction(logits, moving), None, 0.5)["diversity"]
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] - 0.05


def test_ambiguous_people_are_moved(survey):
    """Features free to move: pulled people become more like the positive prototype, pushed people less."""
    features, logits = survey
    calibration = method(
        calibration_weight=0.3,
        entropy_weight=0.0,
        prior_weight=0.0,
        pseudo_label_weight=0.0,
        diversity_weight=0.0,
        memory=0.999,
    )
    calibration.start(features, torch.sigmoid(logits))
    present = calibration.group_prototypes.scores(features) > 0
    positives, negatives = ambiguous(logits > 0, present, calibration.prototypes.scores(features), MEMBERSHIP)
    assert positives.any()
    assert negatives.any()
    before = calibration.prototypes.margins(features)
    moving = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        calibration.labelled_losses(Prediction(logits, moving), None, 0.5)["calibration"], moving
    )
    touched = (positives | negatives).any(dim=1)
    assert torch.equal(gradient.abs().sum(dim=1) > 0, touched)
    only = (positives.sum(dim=1) + negatives.sum(dim=1)) == 1
    after = calibration.prototypes.margins(features - 0.1 * torch.nn.functional.normalize(gradient, dim=1))
    assert (after > before)[negatives & only[:, None]].all()
    assert (after < before)[positives & only[:, None]].all()


class Given(nn.Module):
    """A detector that answers what it is given."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, frames, boxes, clip_index):
        return self.prediction


class NoClips:
    frames = boxes = clip_index = None


def test_predictions_are_rectified_by_standardised_margins(survey):
    features, logits = survey
    calibration = method(rectification=0.8)
    calibration.start(features, torch.sigmoid(logits))
    given = Prediction(logits[:4], features[:4])
    margins = calibration.prototypes.margins(features)
    expected = logits[:4] + 0.8 * (margins[:4] - calibration.prototypes.threshold) / margins.std(dim=0, correction=0)
    rectified = calibration.companion.predict(Given(given), NoClips())
    torch.testing.assert_close(rectified.logits, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(rectified.features, given.features)
    assert torch.equal(method(rectification=0.0).companion.predict(Given(given), NoClips()).logits, given.logits)


def test_rectification_helps_a_classifier_that_is_a_little_off():
    """Clean clusters and a noisy classifier: prototypes average the noise out."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(400, C, generator=generator) < 0.3).float()
    features = labels @ torch.eye(C, D) * 2 + 0.3 * torch.rand(400, D, generator=generator) + 0.5
    logits = 4 * labels - 2 + 4 * torch.randn(400, C, generator=generator)
    calibration = method(rectification=0.5)
    calibration.start(features, torch.sigmoid(logits))
    rectified = calibration.companion.predict(Given(Prediction(logits, features)), NoClips()).logits
    plain, better = (average_precision_score(labels, x, average="macro") for x in (logits, rectified))
    assert better > plain + 0.01
