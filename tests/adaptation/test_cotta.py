"""Student, teacher and restoration, each against its own words."""

import copy

import pytest
import torch
from online_cases import C, batch, method, trained_detector

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.online import person_entropy
from microg_da.adaptation.online_teacher import soft_cross_entropy
from microg_da.errors import InputError


@pytest.fixture(scope="module")
def trained():
    return trained_detector()


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def unsure(name, detector, **arguments):
    """A method that averages views; else student and teacher agree at first, and nothing is learnt."""
    made = method(name, detector, **arguments)
    made.source_entropy.fill_(0.0)
    return made


def test_with_one_class_the_loss_is_the_papers_for_two_answers():
    """Minus the teacher's softmax times the student's log softmax, for the logits (z, 0)."""
    student, teacher = torch.randn(7, 1, dtype=torch.float64).requires_grad_(), torch.randn(7, 1, dtype=torch.float64)
    pair, answers = (torch.cat([x, torch.zeros_like(x)], dim=1) for x in (student, teacher))
    expected = -(answers.softmax(1) * pair.log_softmax(1)).sum(1).mean()
    loss = soft_cross_entropy(student, teacher)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(loss, [student]), torch.autograd.grad(expected, [student])
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_the_teacher_is_the_students_moving_average(detector):
    cotta = unsure("cotta", detector, decay=0.7, restore_probability=0.0, lr=1e-3, views=1)
    cotta.start_test(detector)
    weight = detector.head.projection.weight
    expected = before = weight.detach().clone()
    for seed in range(3):
        cotta.predict(detector, batch(seed=seed, low=100))
        expected = 0.7 * expected + 0.3 * weight.detach()
        torch.testing.assert_close(cotta._teacher.head.projection.weight, expected)
    assert not torch.equal(weight, before)
    cotta.end_test(detector)


def test_a_share_of_the_weights_goes_back(detector):
    cotta = unsure("cotta", detector, restore_probability=0.25, lr=0.05, views=1)
    before = {name: value.detach().clone() for name, value in detector.named_parameters()}
    torch.manual_seed(0)
    cotta.start_test(detector)
    cotta.predict(detector, batch(low=100))
    changed = [(p != before[name]).flatten() for name, p in detector.named_parameters() if p.requires_grad]
    assert float(torch.cat(changed).float().mean()) == pytest.approx(0.75, abs=0.1)
    cotta.end_test(detector)


def test_restoring_everything_leaves_the_tested_weights(detector):
    cotta = unsure("cotta", detector, restore_probability=1.0, lr=0.05, views=1)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    cotta.start_test(detector)
    cotta.predict(detector, batch(low=100))
    assert all(torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True))
    cotta.end_test(detector)


def test_views_are_averaged_where_the_tested_detector_is_unsure_alone(detector):
    cotta = method("cotta", detector)
    clips = batch(low=100)
    cotta.start_test(detector)
    alone = cotta._teacher(clips.frames, clips.boxes, clips.clip_index).logits
    for entropy, averaged in ((1e3, False), (0.0, True)):
        cotta.source_entropy.fill_(entropy)
        assert torch.equal(cotta.answer(clips).logits, alone) is not averaged
    cotta.end_test(detector)


def test_the_entropy_of_the_source_is_the_mean_over_its_people(detector):
    source = [batch((2, 1), seed=1), batch((0,), seed=2), batch((3,), seed=3)]
    cotta = create_adaptation("cotta", feature_dim=detector.feature_dim, num_classes=C)
    cotta.prepare(detector, source, [])
    logits = torch.cat([detector(clips.frames, clips.boxes, clips.clip_index).logits for clips in source])
    assert float(cotta.source_entropy) == pytest.approx(float(person_entropy(logits.detach()).mean()), rel=1e-5)
    with pytest.raises(InputError, match=r"'cotta'.*source"):
        cotta.prepare(detector, [batch((0, 0))], [])


@pytest.mark.parametrize("wrong", [{"decay": 1.5}, {"restore_probability": -0.1}, {"views": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        create_adaptation("cotta", wrong, feature_dim=3, num_classes=C)
