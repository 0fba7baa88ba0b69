"""What all methods share, and the registry they stand in."""

import copy
import sys
import warnings

import pytest
import torch
from sklearn.metrics import log_loss

from microg_da.adaptation import ADAPTATIONS, uses_target_labels
from microg_da.adaptation.base import (
    DomainAdaptation,
    TestTimeMethod,
    TrainingMethod,
    create_adaptation,
    method_arguments,
    methods_of,
    split_prediction,
)
from microg_da.adaptation.losses import multilabel_bce
from microg_da.config import load_config
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey, Prediction

C = 5


TRAINED = [name for name in methods_of(TrainingMethod) if ADAPTATIONS.load(name).has_epochs]


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0)


def batch(people, *, labelled=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        labels = (torch.rand(count, C, generator=generator) > 0.5).float() if labelled else None
        clip = Clip(frames, boxes, boxes / 48, ClipKey(f"v_{index}", 1))
        clips.append(clip if labels is None else clip.with_labels(labels))
    return collate_clips(clips, "source" if labelled else "target")


def test_the_supervised_loss_is_the_mean_log_loss_of_every_class():
    logits, labels = torch.randn(7, C), (torch.rand(7, C) > 0.5).float()
    expected = log_loss(labels.numpy().ravel(), torch.sigmoid(logits).numpy().ravel().astype("float64"), labels=[0, 1])
    assert float(multilabel_bce(logits, labels)) == pytest.approx(expected, abs=1e-5)


def test_the_supervised_loss_without_people_is_zero_and_has_a_gradient():
    logits = torch.zeros(0, C, requires_grad=True)
    multilabel_bce(logits, torch.zeros(0, C)).backward()
    assert logits.grad.shape == (0, C)


def losses_of_one_step(method, detector, source, target, progress=0.5):
    """What one step of a stage would minimise: each method gets what its stage would give it."""
    if method.uses_target_labels:
        target = target.with_labels(torch.ones(target.num_boxes, C))
    # The people of a step are few. Those of all training clips, which methods look at before, are more.
    with method.rehearsing():
        method.before_training(detector.eval(), [source, batch((2, 1), seed=2)], [target])
    method.before_epoch(detector.eval(), [target], 0)
    return method.step_losses(detector.train(), source if method.uses_source else None, target, progress)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(("source", "target"), [((2, 1), (1, 1)), ((0, 0), (1, 0)), ((1, 0), (0, 0)), ((0, 0), (0, 0))])
def test_every_method_survives_batches_with_few_people(detector, name, source, target):
    detector = copy.deepcopy(detector)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    losses = losses_of_one_step(method, detector, batch(source), batch(target, labelled=False, seed=1))
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    gradients = [p.grad for p in [*detector.parameters(), *method.parameters()] if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    method.after_step(detector)
    method.after_training(detector)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains_under_autocast(detector, name, precision):
    detector = copy.deepcopy(detector)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    with torch.autocast("cpu", precision):
        losses = losses_of_one_step(method, detector, batch((2, 1)), batch((1, 2), labelled=False, seed=1))
        total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_survives_labels_that_are_all_negative(detector, name):
    detector = copy.deepcopy(detector)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    source = batch((2, 1))
    source.labels.zero_()
    losses = losses_of_one_step(method, detector, source, batch((1,), labelled=False), progress=0.9)
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("name", methods_of(TestTimeMethod))
@pytest.mark.parametrize("people", [(2, 1), (1,), (0, 0)])
def test_every_method_predicts_and_leaves_the_detector_as_it_was(detector, name, people):
    detector = copy.deepcopy(detector).eval()
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C).eval()
    with method.rehearsing():
        method.prepare(detector, [batch((2, 1))], [batch((1, 2), labelled=False)])
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with torch.no_grad():
        method.start_test(detector)
        prediction = method.predict(detector, batch(people, labelled=False))
        method.end_test(detector)
    assert prediction.logits.shape == (sum(people), C)
    assert prediction.features.shape == (sum(people), detector.feature_dim)
    assert torch.isfinite(prediction.logits).all()
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_a_method_trains_or_acts_at_test_time_and_never_both():
    training, test_time = set(methods_of(TrainingMethod)), set(methods_of(TestTimeMethod))
    assert not training & test_time
    assert training | test_time == set(ADAPTATIONS) - {"source_only"}
    for name in training:
        companion = create_adaptation(name, feature_dim=3, num_classes=C).companion
        assert isinstance(companion, TestTimeMethod) is ADAPTATIONS.load(name).has_companion


def test_every_method_that_sees_target_labels_is_stamped_and_no_other():
    for name in ADAPTATIONS:
        config = load_config("ava2microg", [f"adaptation={name}"])
        assert uses_target_labels(config) == ADAPTATIONS.load(name).uses_target_labels, name
    assert uses_target_labels(load_config("ava2microg", ["adaptation=joint"]))


class Peeking(DomainAdaptation):
    """A method of another package that sees target labels."""

    uses_target_labels = True


@pytest.mark.parametrize("words", [["adaptation=peeking"], ["adaptation=dann", "adaptation.test_time=peeking"]])
def test_a_method_from_outside_that_sees_target_labels_is_stamped(words, monkeypatch):
    monkeypatch.setattr(ADAPTATIONS, "_entries", dict(ADAPTATIONS._entries))
    assert not uses_target_labels(load_config("ava2microg", ["adaptation=dann", "adaptation.test_time=null"]))
    ADAPTATIONS.register("peeking", f"{__name__}:Peeking", "sees target labels")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Peeking.__module__])
    assert uses_target_labels(load_config("ava2microg", words))


def test_predictions_are_split_between_the_domains():
    whole = Prediction(torch.arange(6).view(3, 2), torch.arange(3).view(3, 1))
    first, second = split_prediction(whole, 1)
    assert first.logits.tolist() == [[0, 1]]
    assert second.features.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        ("dan", {}, ["'dan'", "'dann'"]),
        ("dann", {"wieght": 1}, ["wieght", "'weight'", "dann"]),
        ("dann", {"weight": "heavy"}, ["adaptation.args.weight", "float"]),
        ("source_only", {"x": 1}, ["source_only", "'x'"]),
    ],
)
def test_wrong_arguments_are_named(name, arguments, parts):
    with pytest.raises(InputError) as caught:
        create_adaptation(name, arguments, feature_dim=3, num_classes=C)
    for part in parts:
        assert part in str(caught.value)


def test_a_class_is_made_as_its_name_is():
    by_name = create_adaptation("coral", {"weight": 2}, feature_dim=3, num_classes=C)
    by_class = create_adaptation(type(by_name), {"weight": 2}, feature_dim=3, num_classes=C)
    assert (type(by_class), by_class.arguments, by_class.task) == (type(by_name), by_name.arguments, by_name.task)
    with pytest.raises(InputError, match=r"CORAL.*'wieght'"):
        create_adaptation(type(by_name), {"wieght": 2}, feature_dim=3, num_classes=C)
    for wrong in (int, torch.nn.Linear, by_class):
        with pytest.raises(InputError, match="derived from DomainAdaptation"):
            create_adaptation(wrong, feature_dim=3, num_classes=C)


def test_a_whole_number_is_a_float_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight = method_arguments("coral", {"weight": 2}).weight
    assert (type(weight), weight) == (float, 2.0)
