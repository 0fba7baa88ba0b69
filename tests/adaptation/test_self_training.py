"""Soft labels at the source's class rates, and the rounds in which they are made."""

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.self_training import match_rates
from microg_da.data.batches import collate_clips
from microg_da.models.detector import create_detector
from microg_da.types import Clip, ClipKey

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


def begun(detector, rates=(1.0, 0.0, 0.0, 1.0), **arguments):
    method = create_adaptation("self_training", arguments, feature_dim=128, num_classes=C, class_rates=rates)
    method.before_training(detector.eval(), [], [])
    return method


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0)


def test_target_people_get_their_own_labels_whatever_the_order_of_the_batch(detector):
    training, target = begun(detector, (0.5, 0.2, 0.1, 0.7), rolls=2), clips((2, 0, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    assert [len(training._labels[key]) for key in target.keys] == [2, 0, 1]
    labels = torch.cat([training._labels[key] for key in target.keys])
    assert torch.allclose(labels.mean(dim=0), torch.tensor([0.5, 0.2, 0.1, 0.7]), atol=1e-4)
    source = clips((1, 2), labelled=True)
    both = [clips((1,), labelled=False, name="w"), target]
    training.before_epoch(detector, both, epoch=2)
    loss = training.training_losses(detector, source, target, 0.5)["pseudo_label"]
    logits = detector(target.frames, target.boxes, target.clip_index).logits
    labels = torch.cat([training._labels[key] for key in target.keys])
    expected = -(labels * logits.sigmoid().log() + (1 - labels) * (-logits).sigmoid().log()).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-4)


def test_a_round_lasts_as_long_as_asked(detector):
    training, target = begun(detector, rolls=1, every=3), clips((1,), labelled=False)
    labelled = []
    for epoch in range(6):
        training._labels = {}
        training.before_epoch(detector.eval(), [target], epoch)
        labelled.append(bool(training._labels))
    assert labelled == [True, False, False, True, False, False]


def test_without_known_rates_labels_are_the_predictions(detector):
    training, target = begun(detector, None, rolls=1), clips((2, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    with torch.no_grad():
        expected = detector(target.frames, target.boxes, target.clip_index).logits.sigmoid()
    assert torch.allclose(torch.cat(list(training._labels.values())), expected, atol=1e-5)


def test_the_labels_of_a_round_are_part_of_a_checkpoint_until_training_ends(detector, tmp_path):
    training, target = begun(detector, rolls=1), clips((2, 0, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    torch.save(training.state_dict(), tmp_path / "last.ckpt")
    resumed = begun(detector, rolls=1)
    resumed.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert resumed._labels.keys() == training._labels.keys()
    assert all(torch.equal(resumed._labels[key], training._labels[key]) for key in target.keys)
    resumed.after_training(detector)
    assert resumed._labels == {}


def test_no_target_clip_at_all(detector):
    training = begun(detector, rolls=2)
    training.before_epoch(detector.eval(), [], epoch=0)
    assert training._labels == {}
