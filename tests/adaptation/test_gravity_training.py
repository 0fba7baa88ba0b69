"""Training methods on target clips that are turned upright: the same steps as on clips turned by hand."""

import copy

import pytest
import torch
from stick_figures import clips

from microg_da.adaptation import knowledge
from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.gravity_frame import GravityFrame
from microg_da.adaptation.gravity_training import GravityTraining
from microg_da.adaptation.person_crops import CROP_SPREAD, person_crops
from microg_da.adaptation.up_method import Found
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Prediction

C = 2
SHORT = {"steps": 1, "target_steps": 0, "batch_size": 4, "bins": 24, "width": 8, "frames_per_clip": 1}


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_micro", num_classes=C, dropout=0.0).eval()


def made(inner="coral", inner_args=None, **arguments):
    arguments = {**SHORT, "method": inner, "method_args": inner_args or {}, **arguments}
    return create_adaptation("gravity_training", arguments, feature_dim=128, num_classes=C, class_rates=(0.5, 0.5))


def knowing(method, up):
    """The method with an estimator that knows each person's up by their clip."""

    def find(network, batch):
        degrees = torch.tensor([up[person.keyframe.video_id] for person in batch.people])
        empty = torch.zeros(len(degrees), C)
        return Found(degrees, torch.zeros(len(degrees), 24), Prediction(empty, empty), len(batch))

    method.frame.find = find
    method.frame.prepare = lambda *clips: None
    return method


UP = {"t_0": 90.0, "t_1": 180.0, "t_2": 0.0}


def target():
    return clips([90, 180, 0], name="t")


def upright(batch):
    return roll_batch(batch, torch.tensor([-90.0, -180.0, 0.0]))


def test_the_inner_method_sees_turned_clips_before_training_and_before_each_epoch(detector):
    method, seen = knowing(made(), UP), []
    method.inner.before_training = lambda network, source, target: seen.extend([*target, *target])
    method.inner.before_epoch = lambda network, target, epoch: seen.extend(target)
    method.before_training(detector, [clips([0], domain="source")], [target()])
    for epoch in range(3):
        method.before_epoch(detector, [target()], epoch)
    assert len(seen) == 5
    for batch in seen:
        assert torch.equal(batch.frames, upright(target()).frames)
        assert batch.people == target().people


def test_training_clips_are_turned_by_the_up_of_the_round(detector):
    method = knowing(made(round_epochs=2), dict(UP))
    method.before_training(detector, [], [target()])
    method.before_epoch(detector, [target()], 0)
    assert method.turns(target()).tolist() == [-90, -180, 0]
    method.frame.find = knowing(made(), {**UP, "t_0": 30.0}).frame.find
    method.before_epoch(detector, [target()], 1)
    assert method.turns(target()).tolist() == [-90, -180, 0]
    method.before_epoch(detector, [target()], 2)
    assert method.turns(target()).tolist() == [-30, -180, 0]


@pytest.mark.parametrize("name", ["coral", "mean_teacher", "shot"])
def test_its_losses_are_those_of_the_inner_method(detector, name):
    arguments = {"ramp_up": 0.1} if name == "mean_teacher" else {}
    method = knowing(made(name, arguments), UP)
    plain = create_adaptation(name, arguments, feature_dim=128, num_classes=C, class_rates=(0.5, 0.5))
    source, turned = clips([0] * 3, domain="source"), upright(target())
    losses = []
    for each, batch in ((method, target()), (plain, turned)):
        network = copy.deepcopy(detector)
        torch.manual_seed(1)
        each.before_training(network, [source], [batch])
        each.before_epoch(network, [batch], 0)
        torch.manual_seed(2)
        losses.append(
            {key: float(loss.detach()) for key, loss in each.step_losses(network, source, turned, 0.5).items()}
        )
    assert losses[0] == losses[1]
    training = load_config("ava2microg").training
    assert method.stage_training(training) == plain.stage_training(training)
    assert method.own_lr_scale == plain.own_lr_scale


def test_with_crops_the_inner_method_sees_people_of_both_domains_alone(detector):
    method, seen = knowing(made(person_crop=1.3, person_crop_size=48), UP), []
    method.inner.before_training = lambda network, source, target: seen.extend([*source, *target])
    method.before_training(detector, [clips([0, 0], domain="source")], [target()])
    expected = person_crops(target(), torch.tensor([-90.0, -180.0, 0.0]), torch.full((3,), 1.3), 48)
    assert torch.equal(seen[1].frames, expected.frames)
    assert torch.equal(seen[1].boxes, expected.boxes)
    method.inner.step_losses = lambda network, source, target, progress: seen.extend([source, target]) or {}
    method.step_losses(detector, clips([0, 0], domain="source"), target(), 0.5)
    method.step_losses(detector, clips([0, 0], domain="source"), None, 0.5)
    assert [None if batch is None else tuple(batch.frames.shape[-2:]) for batch in seen] == [(48, 48)] * 5 + [None]
    longer = (seen[3].boxes[:, 2:] - seen[3].boxes[:, :2]).amax(dim=1)
    assert len(set(longer.tolist())) > 1
    assert ((longer / (48 / 1.3)).log().abs() < CROP_SPREAD + 0.01).all()


def test_a_stage_resumes_with_the_same_angles_and_the_same_inner_state(detector):
    method = knowing(made("mean_teacher"), UP)
    method.before_training(detector, [], [target()])
    method.before_epoch(detector, [target()], 0)
    again = made("mean_teacher")
    again.frame.prepare = lambda *clips: None
    again.before_training(detector, [], [target()])
    again.load_state_dict(method.state_dict())
    assert again.turns(target()).tolist() == [-90, -180, 0]
    method.after_training(detector)
    with pytest.raises(InputError, match="t_0"):
        method.turns(target())


def test_the_companion_is_the_gravity_frame(detector):
    method = made()
    assert isinstance(method.companion, GravityFrame)
    assert method.companion is method.frame
    assert GravityTraining.has_companion


@pytest.mark.parametrize("name", ["target_supervised", "roll_tta", "atcon", "adabn", "gravity_self_training"])
def test_methods_that_do_not_train_so_are_refused(name):
    with pytest.raises(InputError, match=rf"method={name}"):
        made(name)


def test_unknown_arguments_of_the_inner_method_are_named():
    with pytest.raises(InputError, match=r"weigth.*coral|coral.*weigth"):
        made("coral", {"weigth": 1.0})


@pytest.mark.parametrize(("name", "known"), [("cdan", {"rolls"}), ("mean_teacher", {"rolls", "class_rates"})])
def test_it_knows_the_rolls_and_what_the_inner_method_knows(name, known):
    words = ["adaptation=gravity_training", f"adaptation.args.method={name}"]
    assert knowledge(load_config("ava2microg", words)) == known


def test_statistics_are_taken_in_the_frame(detector):
    """With `adabn` the companion's detector has the statistics of clips turned by hand."""
    from microg_da.adaptation.adabn import reestimate_batch_norm

    frame = create_adaptation("gravity_frame", {**SHORT, "adabn": True}, feature_dim=128, num_classes=C)
    frame.finder.find = knowing(made(), UP).frame.find
    frame.finder.learn = lambda source, target: None
    by_frame, by_hand = copy.deepcopy(detector), copy.deepcopy(detector)
    frame.prepare(by_frame, [], [target()])
    reestimate_batch_norm(by_hand, [upright(target())])
    for one, other in zip(by_frame.buffers(), by_hand.buffers(), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-6)
    assert any(not torch.equal(*pair) for pair in zip(by_frame.buffers(), detector.buffers(), strict=True))
