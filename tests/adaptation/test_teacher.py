"""The moving average, against its closed form; and what becomes of a teacher."""

import copy

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.teacher import Teacher, newest_share, ramp_up
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey

C = 3


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.5, width=[8, 8, 8, 8])


def people(counts=(2, 1)):
    clips = []
    for index, count in enumerate(counts):
        box = torch.tensor([[4.0, 8, 40, 30]]).repeat(count, 1)
        frames = torch.randint(0, 256, (3, 4, 48, 48), dtype=torch.uint8)
        clips.append(Clip(frames, box, box / 48, ClipKey(f"v_{index}", 1)))
    return collate_clips(clips, "target")


@pytest.mark.parametrize("decay", [0.5, 0.999, 1.0, 0.0])
def test_a_teacher_is_the_weighted_mean_of_the_source_model_and_all_students(detector, decay):
    teacher = Teacher(detector, decay=decay)
    weight = detector.head.projection.weight
    models = [weight.detach().clone()]
    for _ in range(8):
        weight.data.normal_()
        models.append(weight.detach().clone())
        teacher.follow(detector)
    expected = np.average(np.stack(models), axis=0, weights=[decay**age for age in range(8, -1, -1)])
    np.testing.assert_allclose(teacher.network.head.projection.weight, expected, atol=1e-6)


def test_the_decay_is_the_one_that_was_asked_for_once_there_are_many_models():
    assert newest_share(0.9, 1000) == pytest.approx(0.1)
    # After one epoch of 62 steps a teacher of decay 0.999 is about the mean of all models, and no student.
    assert newest_share(0.999, 62) == pytest.approx(1 / 63, rel=0.05)


def test_statistics_follow_and_counters_are_copied(detector):
    teacher = Teacher(detector, decay=0.9)
    norm = next(m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm3d))
    norm.running_mean += 1.0
    norm.num_batches_tracked += 7
    teacher.follow(detector)
    of_teacher = next(m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm3d))
    assert torch.allclose(of_teacher.running_mean, torch.full_like(norm.running_mean, 1 / 1.9))
    assert int(of_teacher.num_batches_tracked) == 7


def test_a_teacher_is_frozen_and_evaluates_in_training(detector):
    method = create_adaptation("mean_teacher", feature_dim=detector.feature_dim, num_classes=C)
    method.before_training(detector, [], [])
    method.train()
    assert not any(module.training for module in method.teacher.modules())
    assert not any(parameter.requires_grad for parameter in method.parameters())
    batch = people()
    with torch.no_grad():
        assert torch.equal(method.teacher(batch), method.teacher(batch))  # no dropout
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_the_first_teacher_says_what_the_source_model_says(detector):
    batch = people()
    with torch.no_grad():
        expected = detector.eval()(batch.frames, batch.boxes, batch.clip_index).logits.sigmoid()
    assert torch.allclose(Teacher(detector, 0.9)(batch).sigmoid(), expected)


def test_rolls_are_averaged_and_the_average_does_not_depend_on_where_one_begins(detector):
    teacher, batch = Teacher(detector, 0.9), people()
    torch.nn.init.normal_(teacher.network.head.projection.weight)
    averaged = teacher(batch, rolls=4).sigmoid()
    turns = torch.stack([teacher(roll_batch(batch, 90.0 * turn)).sigmoid() for turn in range(4)])
    weights = (-torch.distributions.Bernoulli(turns).entropy().sum(dim=2)).softmax(dim=0)
    assert torch.allclose(averaged, torch.einsum("rk,rkc->kc", weights, turns), atol=1e-6)
    assert torch.allclose(averaged, teacher(roll_batch(batch, 90), rolls=4).sigmoid(), atol=1e-5)
    assert not torch.allclose(averaged, teacher(batch).sigmoid(), atol=1e-3)


def test_the_finished_method_holds_no_teacher_and_the_detector_is_the_teacher(detector):
    arguments = {"keep": "teacher"}
    method = create_adaptation("mean_teacher", arguments, feature_dim=detector.feature_dim, num_classes=C)
    fresh = set(method.state_dict())
    method.before_training(detector, [], [])
    detector.head.projection.bias.data += 1
    method.after_step(detector)
    wanted = copy.deepcopy(method.teacher.network.state_dict())
    batch = people()
    detector.eval()
    with torch.no_grad():
        validated = Predictor(method.network(detector))(batch).logits
        method.after_training(detector)
        assert torch.equal(Predictor(method.network(detector))(batch).logits, validated)
    assert set(method.state_dict()) == fresh
    assert all(torch.equal(value, wanted[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize("name", ["mean_teacher", "instance_mixing"])
def test_by_default_the_student_is_validated_and_handed_over(detector, name):
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    method.before_training(detector, [], [])
    detector.head.projection.bias.data += 1
    method.after_step(detector)
    wanted = copy.deepcopy(detector.state_dict())
    assert method.network(detector) is detector
    method.after_training(detector)
    assert method.teacher is None
    assert all(torch.equal(value, wanted[key]) for key, value in detector.state_dict().items())


def test_an_unknown_network_to_hand_over_is_named():
    with pytest.raises(InputError, match=r"'techer'.*teacher"):
        create_adaptation("mean_teacher", {"keep": "techer"}, feature_dim=3, num_classes=C)


def test_a_checkpoint_brings_the_teacher_back(detector):
    methods = [create_adaptation("mean_teacher", feature_dim=detector.feature_dim, num_classes=C) for _ in range(2)]
    for method in methods:
        method.before_training(detector, [], [])
    for _ in range(3):
        detector.head.projection.weight.data.normal_()
        methods[0].after_step(detector)
    methods[1].load_state_dict(methods[0].state_dict())
    detector.head.projection.weight.data.normal_()
    for method in methods:
        method.after_step(detector)
    first, second = (method.teacher.state_dict() for method in methods)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert int(first["updates"]) == 4


def test_the_ramp_of_the_paper():
    assert ramp_up(0, 0.4) == pytest.approx(0.006738, abs=1e-6)  # exp(-5)
    assert ramp_up(0.2, 0.4) == pytest.approx(0.286505, abs=1e-6)  # exp(-5/4)
    assert ramp_up(0.4, 0.4) == ramp_up(0.9, 0.4) == ramp_up(0, 0) == 1


def test_values_out_of_range_are_refused(detector):
    with pytest.raises(InputError, match=r"decay=1\.5"):
        Teacher(detector, 1.5)
    with pytest.raises(InputError, match="rolls=0"):
        Teacher(detector, 0.5)(people(), rolls=0)
