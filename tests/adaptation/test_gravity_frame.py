"""Few rolls of each clip, a decision between them, and a detector that only knows people upright."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from stick_figures import clips
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.person_crops import person_crops
from microg_da.adaptation.up_density import candidate_rolls, mass_at, pool_agreeing
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.up_estimator import angular_distance
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey, Prediction

R = 36


def peaks(*at, sharpness=20.0):
    """A log-density with peaks ``(degrees, mass)``."""
    angles = np.deg2rad(np.arange(R) * 360 / R)
    density = sum(mass * softmax(sharpness * np.cos(angles - np.deg2rad(degrees))) for degrees, mass in at)
    return torch.from_numpy(np.log(density / density.sum())).float()


class KnowsUprightOnly(nn.Module):
    """Says which side a figure's yellow arm is on, as seen in the picture; unsure where it is above or below."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, frames, boxes, clip_index):
        self.seen += len(frames)
        rows = [torch.zeros(0, 2)]
        for box, clip in zip(boxes.tolist(), clip_index.tolist(), strict=True):
            picture = frames[clip, :, 0].float()
            yellow = ((picture[0] > 190) & (picture[1] > 190) & (picture[2] < 120)).float()
            across, down = torch.arange(picture.shape[2]).float(), torch.arange(picture.shape[1]).float()[:, None]
            yellow *= (across > box[0]) & (across < box[2]) & (down > box[1]) & (down < box[3])
            side = float((yellow * (across - (box[0] + box[2]) / 2)).sum() / yellow.sum().clamp(min=1))
            rows.append(torch.tensor([[side, -side]]) * 0.8)
        logits = torch.cat(rows)
        return Prediction(logits, torch.cat([logits, logits], dim=1))


def method(**arguments):
    return create_adaptation("gravity_frame", arguments, feature_dim=4, num_classes=2)


class Fixed(nn.Module):
    """An estimator that says what it was told."""

    def __init__(self, densities):
        super().__init__()
        self.densities = densities

    def log_density(self, frames, boxes, clip_index):
        return self.densities[: len(boxes)]


def told(*densities, **arguments):
    frame = method(**arguments)
    frame.finder.estimator = Fixed(torch.stack(densities))
    return frame


def test_the_mass_around_an_angle():
    density = peaks((40, 0.7), (220, 0.3), sharpness=200)
    at = torch.tensor([40.0, 220.0, 130.0])
    mass = mass_at(density.expand(3, R), at)
    assert mass.tolist() == pytest.approx([0.7, 0.3, 0.0], abs=0.02)


def test_rolls_come_in_the_order_of_their_mass_and_end_where_nothing_is_left():
    density = torch.stack([peaks((40, 0.7), (223, 0.3)), peaks((130, 1.0)), peaks((90, 0.9), (270, 0.02), (180, 0.08))])
    rolls = candidate_rolls(density, torch.tensor([0, 1, 2]), 3, max_rolls=4, min_mass=0.05, gate_angle=0.0)
    assert rolls[0, :2].tolist() == pytest.approx([40, 223], abs=3)
    assert torch.isnan(rolls[0, 2:]).all()
    assert float(rolls[1, 0]) == pytest.approx(130, abs=1)
    assert torch.isnan(rolls[1, 1:]).all()
    assert rolls[2, :2].tolist() == pytest.approx([90, 180], abs=3)
    assert torch.isnan(rolls[2, 2:]).all()


def test_people_with_different_ups_get_a_roll_each():
    density = torch.stack([peaks((10, 1.0)), peaks((140, 1.0)), peaks((250, 1.0))])
    rolls = candidate_rolls(density, torch.zeros(3, dtype=torch.int64), 1, max_rolls=4, min_mass=0.02, gate_angle=0.0)
    assert sorted(rolls[0, :3].tolist()) == pytest.approx([10, 140, 250], abs=2)
    assert torch.isnan(rolls[0, 3])


@pytest.mark.parametrize("degrees", [-14.0, 0.0, 9.0])
def test_what_is_nearly_upright_is_left_as_it_was_filmed(degrees):
    rolls = candidate_rolls(
        peaks((degrees, 1.0))[None], torch.zeros(1, dtype=torch.int64), 1, max_rolls=3, min_mass=0.02, gate_angle=15.0
    )
    assert float(rolls[0, 0]) == 0
    assert torch.isnan(rolls[0, 1:]).all()


def test_densities_are_multiplied_where_people_agree():
    one, other = peaks((40, 0.6), (220, 0.4)), peaks((50, 0.8), (230, 0.2))
    pooled, agree = pool_agreeing(torch.stack([one, other]), torch.zeros(2, dtype=torch.int64), 1)
    product = softmax(one.double().numpy() + other.double().numpy())
    assert agree.tolist() == [True, True]
    assert np.allclose(pooled.exp().numpy(), product, atol=1e-5)


def test_densities_stay_apart_where_people_have_different_ups():
    densities = torch.stack([peaks((40, 1.0)), peaks((170, 1.0)), peaks((80, 1.0))])
    pooled, agree = pool_agreeing(densities, torch.tensor([0, 0, 1]), 2)
    assert agree.tolist() == [False, False, True]
    assert torch.equal(pooled[:2], densities[:2])
    assert torch.allclose(pooled[2], densities[2], atol=1e-5)


def test_an_upright_clip_is_not_resampled_and_costs_one_look():
    batch, detector = clips([0, 0, 0], arms=[1, -1, 1]), KnowsUprightOnly()
    frame = told(peaks((3, 1.0)), peaks((0, 1.0)), peaks((-8, 1.0)))
    expected = detector(batch.frames, batch.boxes, batch.clip_index)
    detector.seen = 0
    found = frame.finder.find(detector, batch)
    assert torch.allclose(found.prediction.logits, expected.logits, atol=1e-5)
    assert detector.seen == found.passes == 3
    assert found.degrees.tolist() == [0, 0, 0]


def test_with_crops_the_detector_sees_each_person_alone_turned_upright():
    batch, detector = clips([120, 0, 240], arms=[1, -1, -1]), KnowsUprightOnly()
    frame = told(peaks((120, 1.0)), peaks((0, 1.0)), peaks((240, 1.0)), person_crop=1.5, person_crop_size=96)
    found = frame.finder.find(detector, batch)
    upright = roll_batch(batch, torch.tensor([-120.0, 0.0, -240.0]))
    crops = person_crops(upright, torch.zeros(3), torch.full((3,), 1.5), 96)
    expected = KnowsUprightOnly()(crops.frames, crops.boxes, crops.clip_index)
    assert torch.equal(found.prediction.logits.sign(), expected.logits.sign())
    assert found.degrees.tolist() == pytest.approx([120, 0, 240], abs=1)
    assert found.passes == detector.seen


def test_a_crop_costs_a_pass_for_each_person():
    batch, detector = clips([0]), KnowsUprightOnly()
    both = batch.take_people(torch.tensor([0, 0]))
    found = told(peaks((0, 1.0)), peaks((0, 1.0)), person_crop=1.2).finder.find(detector, both)
    assert detector.seen == found.passes == 2
    assert torch.equal(found.prediction.logits[0], found.prediction.logits[1])


def test_predictions_are_averaged_by_the_posterior_of_each_roll():
    batch, detector = clips([180], arms=[1]), KnowsUprightOnly()
    density = peaks((180, 0.6), (0, 0.4))
    found = told(density, temperature=0.5, gate_angle=0.0, neighbour_angle=0.0).finder.find(detector, batch)
    views = [detector(view.frames, view.boxes, view.clip_index).logits[0] for view in (roll_batch(batch, 180), batch)]
    logits = torch.stack(views).double().numpy()
    p = expit(logits)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    prior = mass_at(density.expand(2, R), torch.tensor([180.0, 0.0])).double().numpy()
    weights = softmax(np.log(prior) - entropy / 0.5)
    assert expit(found.prediction.logits[0].numpy()) == pytest.approx(weights @ p, abs=1e-4)
    assert float(found.degrees) == [180, 0][int(weights.argmax())]
    assert found.passes == 2


def test_the_likeliest_roll_shares_its_weight_with_its_neighbours():
    batch, detector = clips([180], arms=[1]), KnowsUprightOnly()
    density = peaks((180, 0.9), (0, 0.1))
    narrow, wide = (told(density, gate_angle=0.0, neighbour_angle=angle) for angle in (0.0, 20.0))
    found = wide.finder.find(detector, batch)
    assert found.passes == 4
    rolled = [roll_batch(batch, 180 + turn) for turn in (0, 20, -20)]
    three = torch.stack([detector(view.frames, view.boxes, view.clip_index).logits[0] for view in rolled]).sigmoid()
    one, opposite = three[0], detector(batch.frames, batch.boxes, batch.clip_index).logits[0].sigmoid()
    alone = narrow.finder.find(detector, batch).prediction.logits[0].sigmoid()
    weight = float((alone[0] - opposite[0]) / (one[0] - opposite[0]))
    expected = weight * three.mean(dim=0) + (1 - weight) * opposite
    assert torch.allclose(found.prediction.logits[0].sigmoid(), expected, atol=2e-3)
    assert float(found.degrees) == pytest.approx(180, abs=1)


def test_each_person_is_believed_in_the_view_of_their_own_up():
    """Two people of one clip, a quarter turn apart: each prediction is that of the view in which they are upright."""
    upright, lying = clips([0], arms=[1], seed=1), clips([90], arms=[1], seed=2)
    frames = torch.cat([upright.frames, lying.frames], dim=4)
    boxes = torch.cat([upright.boxes, lying.boxes + torch.tensor([64.0, 0, 64, 0])])
    square = nn.functional.pad(frames.float(), (0, 0, 32, 32)).to(torch.uint8)
    boxes = boxes + torch.tensor([0.0, 32, 0, 32])
    batch = collate_clips([Clip(square[0], boxes, boxes / 128, ClipKey("v", 1))], "target")
    detector = KnowsUprightOnly()
    found = told(peaks((0, 1.0)), peaks((90, 1.0)), max_rolls=2, neighbour_angle=0.0).finder.find(detector, batch)
    views = [batch, roll_batch(batch, -90)]
    as_filmed, turned = (detector(view.frames, view.boxes, view.clip_index).logits.sigmoid() for view in views)
    said = found.prediction.logits.sigmoid()
    assert torch.allclose(said, torch.stack([as_filmed[0], turned[1]]), atol=0.01)
    assert not torch.allclose(as_filmed[1], turned[1], atol=0.05)
    assert found.degrees.tolist() == pytest.approx([0, 90], abs=1)


def test_the_whole_method_turns_chance_into_knowledge():
    """The detector tells left from right arms only in upright people. The estimator sees upright people only."""
    rng = np.random.default_rng(11)
    angles, arms = rng.uniform(40, 320, 80), rng.choice([-1, 1], 80)
    source = clips([0] * 40, domain="source", arms=rng.choice([-1, 1], 40))
    target = clips(angles, arms=arms, seed=3)
    detector = KnowsUprightOnly()
    labels = torch.from_numpy(arms) > 0

    def accuracy(logits):
        return float(((logits[:, 0] > 0) == labels).float().mean())

    frame = method(steps=140, target_steps=40, batch_size=32, frames_per_clip=1, bins=24, width=8, max_rolls=2)
    torch.manual_seed(0)
    frame.prepare(detector, [source], [target])
    as_filmed = accuracy(detector(target.frames, target.boxes, target.clip_index).logits)
    detector.seen = 0
    found = frame.finder.find(detector, target)
    assert as_filmed < 0.6
    assert accuracy(frame.predict(detector, target).logits) > 0.75
    assert found.passes <= 4 * 80
    truth = torch.from_numpy(angles).float()
    assert float((angular_distance(found.degrees, truth) < 45).float().mean()) > 0.75


def test_what_was_learnt_is_saved_and_read_back():
    source, target = clips([0] * 4, domain="source", arms=[1] * 4), clips([70, 200], arms=[1, -1])
    frame, detector = method(steps=2, target_steps=2, batch_size=4, bins=24, width=8), KnowsUprightOnly()
    frame.prepare(detector, [source], [target])
    again = method(steps=2, target_steps=2, batch_size=4, bins=24, width=8)
    again.load_state_dict(frame.state_dict())
    assert torch.equal(again.finder.find(detector, target).degrees, frame.finder.find(detector, target).degrees)
    assert torch.equal(again.predict(detector, target).logits, frame.predict(detector, target).logits)


def test_an_estimator_on_the_backbone_is_trained_saved_and_read_back():
    torch.manual_seed(2)
    detector = create_detector("r2plus1d_micro", num_classes=2).eval()
    source, target = clips([0] * 4, domain="source", arms=[1] * 4), clips([70, 200], arms=[1, -1])
    settings = {
        "estimator": "backbone",
        "steps": 2,
        "target_steps": 2,
        "batch_size": 4,
        "crops": 8,
        "frames_per_clip": 1,
    }

    def built():
        frame = create_adaptation("gravity_frame", settings, feature_dim=detector.feature_dim, num_classes=2)
        frame.built_for(detector)
        return frame

    frame = built()
    head = [parameter.clone() for parameter in frame.finder.estimator.head.parameters()]
    frame.prepare(detector, [source], [target])
    assert any(not torch.equal(*pair) for pair in zip(head, frame.finder.estimator.head.parameters(), strict=True))
    again = built()
    again.load_state_dict(frame.state_dict())
    assert torch.equal(again.finder.find(detector, target).log_density, frame.finder.find(detector, target).log_density)


def test_an_unknown_estimator_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="polar"):
        method(estimator="pola")


def test_a_rehearsal_trains_for_a_fraction_of_the_steps():
    frame = method(steps=90, target_steps=31)
    with frame.rehearsing() as factor:
        assert (frame.finder.settings.steps, frame.finder.settings.target_steps) == (3, 2)
        assert factor == 30
    assert (frame.finder.settings.steps, frame.finder.settings.target_steps) == (90, 31)


def test_nobody_a_box_at_the_border_and_a_box_of_one_pixel():
    empty = clips([0, 0])
    empty = empty.take_people(torch.zeros(2, dtype=torch.bool))
    detector, frame = KnowsUprightOnly(), method()
    assert frame.predict(detector, empty).logits.shape == (0, 2)
    batch = clips([0, 0, 0])
    batch.boxes = torch.tensor([[0.0, 0, 20, 64], [63, 63, 64, 64], [10, 10, 10, 10]])
    found = frame.finder.find(detector, batch)
    assert bool(found.prediction.logits.isfinite().all())
    assert bool(((found.degrees >= 0) & (found.degrees < 360)).all())


def test_a_clip_without_people_among_others():
    batch = clips([120, 0, 240], arms=[1, 1, -1])
    batch = batch.take_people(torch.tensor([True, False, True]))
    found = told(peaks((120, 1.0)), peaks((240, 1.0))).finder.find(KnowsUprightOnly(), batch)
    assert found.degrees.tolist() == pytest.approx([120, 240], abs=1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("max_rolls", 0),
        ("temperature", 0.0),
        ("steps", 0),
        ("lr", -1.0),
        ("width", 6),
        ("bins", 4),
        ("person_crop", 0.5),
        ("person_crop_size", 0),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(argument, value):
    with pytest.raises(InputError, match=argument):
        method(**{argument: value})
