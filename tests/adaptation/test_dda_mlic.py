"""Discrepancy of the classifier's own predictions."""

import copy
import math

import pytest
import torch
from sklearn.mixture import GaussianMixture

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.dda_mlic import component_distances
from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey

C = 5


def logits_of(count, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(count, C, generator=generator) < 0.3
    noise = torch.randn(count, C, generator=generator)
    return (torch.where(present, 3.0 - shift, -3.0) + noise).requires_grad_()


def distances_by_sklearn(source, target):
    """Components fitted to all probabilities of a domain together, as the authors do."""
    moments = []
    for logits in (source, target):
        values = torch.sigmoid(logits.detach().double()).reshape(-1, 1).numpy()
        fit = GaussianMixture(2, reg_covar=1e-3, tol=1e-10, max_iter=2000, random_state=0).fit(values)
        order = fit.means_[:, 0].argsort()
        moments.append((fit.means_[order, 0], fit.covariances_[order, 0, 0] ** 0.5))
    (means, deviations), (other_means, other_deviations) = moments
    return (means - other_means) ** 2 + (deviations - other_deviations) ** 2


def test_the_distances_are_those_of_mixtures_fitted_by_sklearn():
    source, target = logits_of(30), logits_of(25, 1, shift=2.5)
    ours, expected = component_distances(source, target).detach().numpy(), distances_by_sklearn(source, target)
    assert ours == pytest.approx(expected, abs=2e-3)
    assert ours[1] > 10 * ours[0]  # Only what is present is told less surely.


def test_every_class_by_itself_is_the_mean_over_classes():
    source, target = logits_of(30), logits_of(25, 1, shift=2.5)
    alone = [component_distances(source[:, [c]], target[:, [c]]) for c in range(C)]
    torch.testing.assert_close(component_distances(source, target, per_class=True), torch.stack(alone).mean(0))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_domain_does_not_differ_from_itself(per_class):
    logits = logits_of(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    distances = component_distances(logits, logits[order], per_class=per_class)
    torch.testing.assert_close(distances, torch.zeros(2))


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_domains_without_people(per_class, of_source, of_target):
    source, target = logits_of(of_source), logits_of(of_target, 1)
    distances = component_distances(source, target, per_class=per_class)
    distances.sum().backward()
    assert torch.isfinite(distances).all()
    assert all(torch.isfinite(logits.grad).all() for logits in (source, target))
    if not of_source or not of_target:
        assert not distances.any()
        assert not source.grad.any()


def batch(people, seed, labelled):
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        labels = (torch.rand(count, C, generator=generator) > 0.5).float() if labelled else None
        clip = Clip(frames, boxes, boxes / 48, ClipKey(f"v_{index}", 1))
        clips.append(clip if labels is None else clip.with_labels(labels))
    return collate_clips(clips, "source" if labelled else "target")


def test_the_classifier_climbs_and_the_layers_before_it_descend():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0).train()
    torch.nn.init.normal_(detector.head.projection.weight)
    explicit = copy.deepcopy(detector)
    source, target = batch((2, 1), 0, labelled=True), batch((1, 2), 1, labelled=False)
    arguments = {"weight": 0.4, "gamma": 8.0, "negative": 0.5, "positive": 2.0}
    method = create_adaptation("dda_mlic", arguments, feature_dim=detector.feature_dim, num_classes=C)
    losses = method.step_losses(detector, source, target, 0.3)
    losses["discrepancy"].backward()

    frames = torch.cat([source.frames, target.frames])
    boxes = torch.cat([source.boxes, target.boxes])
    logits = explicit(frames, boxes, torch.cat([source.clip_index, target.clip_index + 2])).logits
    low, high = component_distances(logits[:3], logits[3:])
    expected = 0.4 * math.tanh(4 * 0.3) * (0.5 * low + 2.0 * high)
    expected.backward()
    torch.testing.assert_close(losses["discrepancy"], expected)
    torch.testing.assert_close(losses["supervised"], multilabel_bce(logits[:3], source.labels))
    assert expected > 0
    for (name, ours), theirs in zip(detector.named_parameters(), explicit.parameters(), strict=True):
        sign = -1 if name.startswith("head.projection") else 1
        torch.testing.assert_close(ours.grad, sign * theirs.grad, atol=1e-6, rtol=1e-3, msg=name)


def test_target_predictions_come_to_be_as_sure_as_source_predictions():
    """Target features are fainter; a scale in front of a classifier that is given learns to make up for it."""
    method = create_adaptation("dda_mlic", feature_dim=C, num_classes=C)
    scale = torch.ones((), requires_grad=True)
    optimizer = torch.optim.Adam([scale], lr=0.1)
    for step in range(60):
        optimizer.zero_grad()
        faint = 0.3 * logits_of(60, 2 * step + 1).detach()
        method.discrepancy(logits_of(60, 2 * step).detach(), scale * faint).backward()
        optimizer.step()
    assert float(scale.detach()) == pytest.approx(1 / 0.3, rel=0.25)
