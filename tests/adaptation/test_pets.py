"""Who labels, who learns, and who changes places with whom."""

import copy

import pytest
import torch
from online_cases import batch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.pets import exchange
from microg_da.errors import InputError
from microg_da.models import create_detector

C = 3


@pytest.fixture
def detector():
    torch.manual_seed(0)
    made = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[4, 4, 4, 4]).eval()
    torch.nn.init.normal_(made.head.projection.weight, std=1.0)
    return made


def ready(detector, target=(), **arguments):
    pets = create_adaptation("pets", arguments, feature_dim=detector.feature_dim, num_classes=C)
    pets.before_training(detector.eval(), [], list(target))
    return pets


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def shift(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)


def test_student_and_static_teacher_change_places_each_period(detector):
    pets = ready(detector, exchange_epochs=2)
    source = state(detector)
    shift(detector)
    student = state(detector)
    for epoch, exchanged in ((0, False), (1, False), (2, True), (3, True), (4, False)):
        pets.before_epoch(detector, [], epoch)
        assert same(state(detector), source if exchanged else student)
        assert same(state(pets.static), student if exchanged else source)
    assert same(state(pets.teacher.network), source)  # it followed nobody yet


def test_an_exchange_keeps_the_optimisers_parameters(detector):
    other = copy.deepcopy(detector)
    shift(other)
    before = [list(network.parameters()) for network in (detector, other)]
    exchange(detector, other)
    for network, parameters in zip((detector, other), before, strict=True):
        assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))


def test_the_consensus_is_the_mean_probability_of_both_teachers(detector):
    pets = ready(detector)
    shift(pets.static)
    target = batch((2, 1))
    views = (target.frames, target.boxes, target.clip_index)
    expected = (pets.teacher.network(*views).logits.sigmoid() + pets.static(*views).logits.sigmoid()) / 2
    torch.testing.assert_close(pets.consensus(target), expected)
    assert not pets.consensus(target).requires_grad


def test_class_rates_are_what_the_source_model_expects_of_the_target(detector):
    target = [batch((2, 1), seed=1), batch((0,), seed=2), batch((1,), seed=3)]
    pets = ready(detector, target)
    said = torch.cat([detector(b.frames, b.boxes, b.clip_index).logits.detach().sigmoid() for b in target])
    torch.testing.assert_close(pets.thresholds.positives / pets.thresholds.people, said.mean(0))
    pets.step_losses(detector.train(), None, target[0], 0.5)
    torch.testing.assert_close(pets.thresholds.positives / pets.thresholds.people, said.mean(0))


def test_a_target_without_people_teaches_nothing(detector):
    pets = ready(detector, [batch((0,))])
    losses = pets.step_losses(detector.train(), None, batch((2, 1)), 0.5)
    assert float(losses["pseudo_label"].detach()) == pytest.approx(0.0, abs=2.0)
    assert torch.isfinite(losses["pseudo_label"])


def test_the_dynamic_teacher_is_validated_and_handed_over(detector):
    pets = ready(detector, decay=0.0)
    shift(detector)
    pets.after_step(detector)
    shift(detector)
    teacher = state(pets.teacher.network)
    assert pets.network(detector) is pets.teacher.network
    pets.after_training(detector)
    assert same(state(detector), teacher)
    assert pets.network(detector) is detector
    with pytest.raises(RuntimeError, match="before_training"):
        pets.consensus(batch())


def test_a_period_has_an_epoch():
    with pytest.raises(InputError, match="exchange_epochs"):
        create_adaptation("pets", {"exchange_epochs": 0}, feature_dim=3, num_classes=C)
