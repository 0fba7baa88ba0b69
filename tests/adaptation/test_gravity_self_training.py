"""Rounds of angles and labels, and target clips that are turned upright before they are learnt from."""

import numpy as np
import pytest
import torch
from stick_figures import clips

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.gravity_frame import GravityFrame
from microg_da.adaptation.round import Round
from microg_da.adaptation.up_method import Found
from microg_da.config import AugmentConfig
from microg_da.data.batches import concatenate_batches
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.augmentation import augment_batch
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipKey, PersonKey, Prediction

C = 2


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_micro", num_classes=C, dropout=0.0).eval()


def begun(detector, rates=(0.5, 0.5), **arguments):
    arguments = {
        "steps": 2,
        "target_steps": 0,
        "batch_size": 4,
        "bins": 24,
        "width": 8,
        "frames_per_clip": 1,
        **arguments,
    }
    method = create_adaptation("gravity_self_training", arguments, feature_dim=128, num_classes=C, class_rates=rates)
    source, target = clips([0] * 4, domain="source"), clips([60, 200], name="t")
    method.before_training(detector, [source], [target])
    return method


def with_answers(method, degrees, logits):
    """The method with an estimator that gives each person, in order of being seen, these answers."""

    class Answers:
        seen = 0

        def find(self, network, batch):
            rows = slice(self.seen, self.seen + batch.num_boxes)
            self.seen += batch.num_boxes
            prediction = Prediction(logits[rows], torch.zeros(batch.num_boxes, 4))
            return Found(degrees[rows], torch.zeros(batch.num_boxes, 24), prediction, len(batch))

    del method.frame.finder
    object.__setattr__(method.frame, "finder", Answers())
    return method


def test_the_companion_is_the_gravity_frame_with_the_same_estimator(detector):
    method = begun(detector)
    assert isinstance(method.companion, GravityFrame)
    state = {name.removeprefix("frame."): value for name, value in method.state_dict().items() if "frame." in name}
    assert set(state) == set(method.companion.state_dict())
    again = create_adaptation("gravity_frame", {"bins": 24, "width": 8}, feature_dim=128, num_classes=C)
    again.load_state_dict(state)
    target = clips([60, 200], name="t")
    assert torch.equal(again.predict(detector, target).logits, method.companion.predict(detector, target).logits)


def test_angles_and_labels_follow_people_through_drops_and_order(detector):
    one, other = clips([10, 20, 30], name="a"), clips([40, 50], name="b")
    degrees, logits = torch.tensor([10.0, 20, 30, 40, 50]), torch.randn(5, C)
    method = with_answers(begun(detector, rates=None), degrees, logits)
    method.before_epoch(detector, [one, other], epoch=0)
    mixed = concatenate_batches(other, one).take_people(torch.tensor([True, True, False, True, True]))
    assert method.beliefs.of("degrees", mixed.people).tolist() == [40, 50, 20, 30]
    assert torch.allclose(method.beliefs.of("labels", mixed.people), logits[[3, 4, 1, 2]].sigmoid())
    assert method.turns(mixed).tolist() == [-40, -50, 0, -20, -30]


def test_a_person_who_was_not_met_is_named(detector):
    method = with_answers(begun(detector), torch.tensor([10.0]), torch.zeros(1, C))
    method.before_epoch(detector, [clips([10], name="a")], epoch=0)
    with pytest.raises(InputError, match="b_0"):
        method.turns(clips([10], name="b"))


def test_labels_have_the_rates_of_the_source(detector):
    method = with_answers(begun(detector, rates=(0.2, 0.7)), torch.zeros(6), torch.randn(6, C))
    method.before_epoch(detector, [clips([0] * 6, name="t")], epoch=0)
    assert method.beliefs.all("labels").mean(dim=0).tolist() == pytest.approx([0.2, 0.7], abs=1e-4)


def test_a_round_lasts_as_long_as_asked(detector):
    method = with_answers(begun(detector, round_epochs=3), torch.arange(60.0), torch.zeros(60, C))
    rounds = []
    for epoch in range(6):
        method.before_epoch(detector, [clips([0], name="t")], epoch)
        rounds.append(float(method.beliefs.all("degrees")))
    assert rounds == [0, 0, 0, 1, 1, 1]


def test_turned_clips_are_those_of_a_roll_and_jitter_comes_after(detector):
    target = clips([70, 200], name="t")
    nothing = AugmentConfig(flip=0, scale=[1.0, 1.0], colour=0)
    turned = augment_batch(target, nothing, turn=torch.tensor([-70.0, -200.0]))
    expected = roll_batch(target, torch.tensor([-70.0, -200.0]))
    assert torch.allclose(turned.boxes, expected.boxes, atol=1e-3)
    assert float((turned.frames.float() - expected.frames.float()).abs().mean()) < 1
    mirrored = augment_batch(
        target, AugmentConfig(flip=1, scale=[1.0, 1.0], colour=0), turn=torch.tensor([-70.0, -200.0])
    )
    difference = mirrored.frames.float() - expected.frames.flip(-1).float()
    assert float(difference[..., 8:-8, 8:-8].abs().mean()) < 4


def test_the_losses_are_those_of_both_domains(detector):
    method = with_answers(begun(detector, rates=None, weight=0.5), torch.zeros(2), torch.tensor([[2.0, -1], [0, 3]]))
    source, target = clips([0] * 2, domain="source"), clips([0, 0], name="t")
    method.before_epoch(detector, [target], epoch=0)
    losses = method.step_losses(detector, source, target, 0.0)
    with torch.no_grad():
        said = torch.sigmoid(detector(target.frames, target.boxes, target.clip_index).logits).double().numpy()
        told = torch.sigmoid(torch.tensor([[2.0, -1], [0, 3]])).double().numpy()
    expected = -(told * np.log(said) + (1 - told) * np.log(1 - said)).mean()
    assert set(losses) == {"supervised", "pseudo_label"}
    assert float(losses["pseudo_label"].detach()) == pytest.approx(0.5 * expected, rel=1e-3)


def test_with_crops_both_domains_are_seen_person_by_person(detector):
    method = with_answers(begun(detector, person_crop=1.3, person_crop_size=40), torch.zeros(2), torch.zeros(2, 2))
    target, sizes = clips([0, 0], name="t"), []
    method.before_epoch(detector, [target], epoch=0)
    handle = detector.backbone.register_forward_pre_hook(lambda module, given: sizes.append(tuple(given[0].shape)))
    method.step_losses(detector, clips([0] * 3, domain="source"), target, 0.0)
    handle.remove()
    assert sizes == [(5, 3, 2, 40, 40)]


def test_a_resumed_stage_has_the_same_angles_labels_and_estimator(detector, tmp_path):
    target = clips([60, 200, 10], name="t")
    method = begun(detector)
    method.before_epoch(detector, [target], epoch=0)
    torch.save(method.state_dict(), tmp_path / "last.ckpt")
    torch.manual_seed(99)  # an estimator of its own, before the state is read
    resumed = begun(detector)
    resumed.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert torch.equal(resumed.turns(target), method.turns(target))
    assert torch.equal(resumed.beliefs.all("labels"), method.beliefs.all("labels"))
    assert torch.equal(
        resumed.companion.predict(detector, target).logits, method.companion.predict(detector, target).logits
    )


def test_the_estimator_is_not_trained_with_the_detector(detector):
    assert not any(parameter.requires_grad for parameter in begun(detector).companion.parameters())


def test_the_round_is_forgotten_when_training_ends(detector):
    method = begun(detector)
    method.before_epoch(detector, [clips([60], name="t")], epoch=0)
    method.after_training(detector)
    assert len(method.beliefs) == 0
    assert method.teacher is None


def test_a_round_survives_plain_types_and_counts_each_person_once():
    people = [PersonKey(ClipKey("v", 3), 0), PersonKey(ClipKey("v", 3), 1), PersonKey(ClipKey("v", 3), 0)]
    kept = Round(people, degrees=torch.tensor([5.0, 7.0, 9.0]))
    again = Round.from_state(kept.state())
    assert len(again) == 2
    assert again.of("degrees", [people[1], people[0]]).tolist() == [7, 9]


def test_a_clip_without_people_is_not_turned(detector):
    method = with_answers(begun(detector), torch.tensor([30.0]), torch.zeros(1, C))
    target = clips([0, 30], name="t").take_people(torch.tensor([False, True]))
    method.before_epoch(detector, [target], epoch=0)
    assert method.turns(target).tolist() == [0, -30]
    assert method.turns(target.take_people(torch.tensor([False]))).tolist() == [0, 0]
