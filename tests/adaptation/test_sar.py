"""Reliable people, a flat minimum, and recovery: each against its own words."""

import copy

import pytest
import torch
from online_cases import C, batch, method, trained_detector
from scipy.stats import bernoulli
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.online import person_entropy
from microg_da.adaptation.sar import climb, descend
from microg_da.errors import InputError


@pytest.fixture
def detector():
    return trained_detector()


def scales(detector):
    return [parameter for parameter in detector.parameters() if parameter.requires_grad]


def test_an_uninformed_answer_is_one_that_knows_the_class_rates(detector):
    source = [batch((2, 1), seed=1), batch((0, 1), seed=2), batch((3,), seed=3)]
    sar = create_adaptation("sar", {"source_batches": 2}, feature_dim=detector.feature_dim, num_classes=C)
    sar.prepare(detector, iter(source), [])
    looked_at = [detector(clips.frames, clips.boxes, clips.clip_index).logits for clips in source[:2]]
    rates = torch.sigmoid(torch.cat(looked_at)).mean(0).detach().numpy()
    assert float(sar.uninformed) == pytest.approx(sum(bernoulli(p).entropy() for p in rates), rel=1e-4)


def test_source_clips_without_people_are_said(detector):
    sar = create_adaptation("sar", feature_dim=detector.feature_dim, num_classes=C)
    with pytest.raises(InputError, match=r"'sar'.*source"):
        sar.prepare(detector, [batch((0, 0))], [])


def test_people_of_high_entropy_are_left_out(detector):
    """The step on a batch is the step on its reliable people: others get no gradient."""
    clips = batch((2, 2, 2), low=100)
    sar = method("sar", detector)
    sar.start_test(detector)
    entropy = person_entropy(detector(clips.frames, clips.boxes, clips.clip_index).logits.detach())
    middle = float(entropy.median()) + 1e-4
    sar.arguments.margin, sar.arguments.radius = middle / float(sar.uninformed), 1e-9
    logits = detector(clips.frames, clips.boxes, clips.clip_index).logits
    chosen = scales(detector)
    loss = person_entropy(logits)[entropy < middle].mean()
    gradients = torch.autograd.grad(loss, chosen)
    before = [parameter.detach().clone() for parameter in chosen]
    sar.predict(detector, clips)
    for old, new, gradient in zip(before, chosen, gradients, strict=True):
        assert torch.allclose(new - old, -sar.arguments.lr * gradient, atol=1e-6)
    sar.end_test(detector)


def test_nobody_reliable_changes_nothing(detector):
    sar = method("sar", detector, margin=1e-9)
    sar.start_test(detector)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    sar.predict(detector, batch())
    assert all(torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True))
    sar.end_test(detector)


def test_the_gradient_is_taken_at_the_top_of_the_climb(detector):
    """The step is the gradient at w + radius · g / |g|, from w."""
    sar = method("sar", detector, radius=0.2)
    clips = batch((2, 1), low=100)
    sar.start_test(detector)

    def loss(network):
        return person_entropy(network(clips.frames, clips.boxes, clips.clip_index).logits).mean()

    elsewhere = copy.deepcopy(detector)
    for parameter, gradient, length in normed(torch.autograd.grad(loss(elsewhere), scales(elsewhere)), elsewhere):
        parameter.data += 0.2 * gradient / length
    expected = torch.autograd.grad(loss(elsewhere), scales(elsewhere))
    before = [parameter.detach().clone() for parameter in scales(detector)]
    sar.predict(detector, clips)
    for old, new, gradient in zip(before, scales(detector), expected, strict=True):
        assert torch.allclose(new - old, -sar.arguments.lr * gradient, atol=1e-6)
    sar.end_test(detector)


def normed(gradients, network):
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [(p, gradient, length) for p, gradient in zip(scales(network), gradients, strict=True)]


def test_a_climb_has_its_radius_and_is_undone_exactly():
    layer = nn.Linear(3, 2)
    for parameter in layer.parameters():
        parameter.grad = torch.randn_like(parameter)
    start = nn.utils.parameters_to_vector(layer.parameters()).detach().clone()
    before = climb(list(layer.parameters()), 0.7)
    assert float((nn.utils.parameters_to_vector(layer.parameters()).detach() - start).norm()) == pytest.approx(
        0.7, rel=1e-5
    )
    descend(before)
    assert torch.equal(nn.utils.parameters_to_vector(layer.parameters()), start)


def test_a_collapse_is_recovered_from(detector):
    sar = method("sar", detector, lr=0.5)
    sar.arguments.recovery = 0.5 / float(sar.uninformed)  # half a nat
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    sar.start_test(detector)
    entropies = []
    while not sar.recoveries and len(entropies) < 60:
        entropies.append(float(person_entropy(sar.predict(detector, batch((2, 1), low=100)).logits).mean()))
    assert sar.recoveries == 1
    assert all(torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True))
    assert entropies[-1] < entropies[0]
    sar.end_test(detector)


def test_the_last_stage_is_left_alone(detector):
    sar = method("sar", detector)
    sar.start_test(detector)
    trained = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert any("res3" in name for name in trained)
    assert not any("res4" in name or "head" in name for name in trained)
    sar.end_test(detector)
