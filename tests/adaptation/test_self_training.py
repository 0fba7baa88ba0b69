"""Soft labels at the source's class rates, and the rounds in which they are made."""

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.self_training import match_rates
from microg_da.config import AugmentConfig
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import Clip, ClipKey

C = 4


def clips(people, *, labelled, name="v"):
    made = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        labels = torch.ones(count, C) * torch.tensor([1.0, 0, 0, 1]) if labelled else None
        clip = Clip(frames, boxes, boxes / 48, ClipKey(f"{name}_{index}", 46))
        made.append(clip if labels is None else clip.with_labels(labels))
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


def has_labels(training, target):
    try:
        return training.labels_of(target.people).shape == (target.num_boxes, C)
    except InputError:
        return False


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0)


def test_target_people_get_their_own_labels_whatever_the_order_of_the_batch(detector):
    training, target = begun(detector, (0.5, 0.2, 0.1, 0.7), rolls=2), clips((2, 0, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    labels = training.labels_of(target.people)
    assert torch.allclose(labels.mean(dim=0), torch.tensor([0.5, 0.2, 0.1, 0.7]), atol=1e-4)
    source = clips((1, 2), labelled=True)
    both = [clips((1,), labelled=False, name="w"), target]
    training.before_epoch(detector, both, epoch=2)
    loss = training.step_losses(detector, source, target, 0.5)["pseudo_label"]
    logits = detector(target.frames, target.boxes, target.clip_index).logits
    labels = training.labels_of(target.people)
    expected = -(labels * logits.sigmoid().log() + (1 - labels) * (-logits).sigmoid().log()).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-4)


def test_a_round_lasts_as_long_as_asked(detector):
    training, target = begun(detector, rolls=1, round_epochs=3), clips((1,), labelled=False)
    labelled = []
    for epoch in range(6):
        training.set_extra_state({"people": [], "values": {"labels": torch.zeros(0, C)}})
        training.before_epoch(detector.eval(), [target], epoch)
        labelled.append(has_labels(training, target))
    assert labelled == [True, False, False, True, False, False]


def test_without_known_rates_labels_are_the_predictions(detector):
    training, target = begun(detector, None, rolls=1), clips((2, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    with torch.no_grad():
        expected = detector(target.frames, target.boxes, target.clip_index).logits.sigmoid()
    assert torch.allclose(training.labels_of(target.people), expected, atol=1e-5)


def test_the_labels_of_a_round_are_part_of_a_checkpoint_until_training_ends(detector, tmp_path):
    training, target = begun(detector, rolls=1), clips((2, 0, 1), labelled=False)
    training.before_epoch(detector.eval(), [target], epoch=0)
    torch.save(training.state_dict(), tmp_path / "last.ckpt")
    resumed = begun(detector, rolls=1)
    resumed.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert torch.equal(resumed.labels_of(target.people), training.labels_of(target.people))
    resumed.after_training(detector)
    assert not has_labels(resumed, target)


def test_no_target_clip_at_all(detector):
    training = begun(detector, rolls=2)
    training.before_epoch(detector.eval(), [], epoch=0)
    assert training.labels_of(()).shape == (0, C)


def test_people_keep_their_labels_when_augmentation_drops_others(detector):
    """One in the middle stays in the picture; those in the corners leave it under most rolls."""
    torch.manual_seed(0)
    made = []
    for index in range(6):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8)
        boxes = torch.tensor([[0.0, 0, 9, 9], [14, 14, 34, 34], [40, 2, 48, 14]])
        made.append(Clip(frames, boxes, boxes / 48, ClipKey(f"v_{index}", 46)))
    target = collate_clips(made, "target")
    training = begun(detector, None, rolls=1)
    training.before_epoch(detector.eval(), [target], epoch=0)
    with torch.no_grad():
        said = detector(target.frames, target.boxes, target.clip_index).logits.sigmoid()
    seen = augment_batch(target, AugmentConfig(scale=[1.0, 1.0], rotation=180, min_visibility=0.95))
    assert 6 <= seen.num_boxes < target.num_boxes
    # Table boxes do not move, so that they tell who somebody is without any identity.
    for clip, box, label in zip(seen.clip_index, seen.table_boxes, training.labels_of(seen.people), strict=True):
        row = ((target.clip_index == clip) & (target.table_boxes == box).all(dim=1)).nonzero().item()
        assert torch.allclose(label, said[row], atol=1e-5)
    losses = training.training_losses(detector, clips((1,), labelled=True), seen, 0.5)
    assert torch.isfinite(losses["pseudo_label"])


def test_a_clip_that_comes_twice_counts_once(detector, tmp_path):
    target = clips((2, 1), labelled=False)
    other = clips((1,), labelled=False, name="w")
    once, twice = (begun(detector, (0.5, 0.2, 0.1, 0.7), rolls=1) for _ in range(2))
    once.before_epoch(detector.eval(), [target, other], epoch=0)
    twice.before_epoch(detector.eval(), [target, target, other], epoch=0)
    resumed = begun(detector, rolls=1)
    resumed.load_state_dict(twice.state_dict())
    for batch in (target, other):
        assert torch.allclose(once.labels_of(batch.people), twice.labels_of(batch.people), atol=1e-6)
        assert torch.equal(resumed.labels_of(batch.people), twice.labels_of(batch.people))


def test_a_person_without_a_label_is_named(detector):
    training, target = begun(detector, rolls=1), clips((2,), labelled=False)
    training.before_epoch(detector.eval(), [target.take_people(torch.tensor([0]))], epoch=0)
    with pytest.raises(InputError, match=r"v_0\b.*\b46\b.*\b2\b"):
        training.labels_of(target.people)
