"""Soft labels at the source's class rates, and the rounds in which they are made."""

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.self_training import match_rates
from microg_da.data.clips import Clip, ClipKey, collate_clips
from microg_da.models.detector import create_detector

C = 4


def clips(people, *, labelled, name="v"):
    made = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        labels = torch.ones(count, C) * torch.tensor([1.0, 0, 0, 1]) if labelled else None
        made.append(Clip(frames, boxes, boxes / 48, labels, ClipKey(f"{name}_{index}", 46)))
    return collate_clips(made, "source" if labelled else "target")


def test_the_shift_is_the_root_that_scipy_finds():
    torch.manual_seed(0)
    logits, rates = 3 * torch.randn(40, 3) - 2, torch.tensor([0.02, 0.3, 0.9])
    matched = match_rates(logits, rates)
    assert torch.allclose(matched.mean(dim=0), rates, atol=1e-5)
    for c in range(3):
        z = logits[:, c].double().numpy()
        shift = brentq(lambda s, z=z, c=c: expit(z + s).mean() - float(rates[c]), -60, 60)
        assert torch.allclose(matched[:, c], torch.from_numpy(expit(z + shift)).float(), atol=1e-5)


def test_order_within_a_class_is_kept():
    logits = torch.randn(30, 2)
    assert torch.equal(match_rates(logits, torch.tensor([0.1, 0.7])).argsort(0), logits.argsort(0))


def test_classes_that_nobody_or_everybody_has():
    matched = match_rates(torch.randn(5, 2), torch.tensor([0.0, 1.0]))
    assert matched.tolist() == [[0.0, 1.0]] * 5
    assert match_rates(torch.zeros(0, 2), torch.tensor([0.5, 0.5])).shape == (0, 2)


def test_target_people_get_their_own_labels_whatever_the_order_of_the_batch():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0)
    method = create_adaptation("self_training", {"rolls": 2}, feature_dim=detector.feature_dim, num_classes=C)
    source, target = clips((1, 2), labelled=True), clips((2, 0, 1), labelled=False)
    first = method.training_losses(detector.train(), source, target, 0.0)
    assert float(first["pseudo_label"]) == 0  # the warm-up learns from the source alone
    method.before_epoch(detector.eval(), [target], epoch=1)
    assert [len(method._labels[key]) for key in target.keys] == [2, 0, 1]
    together = torch.cat([method._labels[key] for key in target.keys])
    # Every source person had classes 0 and 3 and no other, so every target person has.
    assert together.tolist() == [[1.0, 0.0, 0.0, 1.0]] * 3
    second = method.training_losses(detector.train(), source, target, 0.5)
    assert float(second["pseudo_label"]) > 0


def test_the_warm_up_can_be_left_out_only_once_rates_are_known():
    detector = create_detector("r2plus1d_tiny", num_classes=C)
    method = create_adaptation("self_training", {"warm_up": 0}, feature_dim=detector.feature_dim, num_classes=C)
    method.before_epoch(detector.eval(), [clips((1,), labelled=False)], epoch=0)
    assert method._labels == {}


def test_rates_are_those_of_all_source_people_so_far():
    detector = create_detector("r2plus1d_tiny", num_classes=C)
    method = create_adaptation("self_training", feature_dim=detector.feature_dim, num_classes=C)
    for people in ((1,), (2, 1)):
        method.training_losses(detector.train(), clips(people, labelled=True), None, 0.0)
    assert float(method.people) == 4
    assert (method.positives / method.people).tolist() == pytest.approx([1, 0, 0, 1])
