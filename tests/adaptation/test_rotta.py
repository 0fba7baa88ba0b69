"""Who is remembered, what is learnt from the memory, and how slowly the teacher follows."""

import copy
import math

import pytest
import torch
from online_cases import C, batch, method, trained_detector

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.online_teacher import soft_cross_entropy
from microg_da.adaptation.robust_norm import robust_statistics
from microg_da.adaptation.rotta import categories_of, one_person, same_size, timeliness
from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.transforms.augmentation import augment_batch


@pytest.fixture(scope="module")
def trained():
    return trained_detector()


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def test_with_one_class_the_loss_is_the_papers_for_two_answers():
    """Mean of w(A) · −Σ teacher's softmax · student's log softmax, for the logits (z, 0)."""
    student, teacher = torch.randn(7, 1, dtype=torch.float64).requires_grad_(), torch.randn(7, 1, dtype=torch.float64)
    ages = torch.arange(7) / 3
    pair, answers = (torch.cat([x, torch.zeros_like(x)], dim=1) for x in (student, teacher))
    weights = torch.exp(-ages) / (1 + torch.exp(-ages))
    expected = (weights * -(answers.softmax(1) * pair.log_softmax(1)).sum(1)).mean()
    loss = soft_cross_entropy(student, teacher, timeliness(ages))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(loss, [student]), torch.autograd.grad(expected, [student])
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_categories_are_the_most_probable_class_where_classes_are_equally_common():
    logits = torch.randn(40, C)
    assert torch.equal(categories_of(logits, torch.full((C,), -2.0)), logits.argmax(dim=1))


def test_a_class_that_everybody_has_is_no_category_of_everybody():
    probabilities = torch.tensor([[0.95, 0.02, 0.01], [0.97, 0.30, 0.01], [0.99, 0.02, 0.01]])
    rates = torch.tensor([0.95, 0.02, 0.01])
    assert categories_of(torch.logit(probabilities), torch.logit(rates)).tolist() == [0, 1, 0]


def test_a_step_is_adams_on_the_weighted_loss_of_the_memory(detector):
    """Worked out on copies: teacher and student see the memory, one view, statistics move by their share."""
    rotta = method("rotta", detector, update_interval=3, momentum=0.2, lr=0.01, decay=0.9, memory=4)
    rotta.view = AugmentConfig(flip=1.0, scale=[1.0, 1.0], colour=0.0)  # every view is the mirror image
    teacher, student = copy.deepcopy(detector), copy.deepcopy(detector).requires_grad_(True)
    clips = batch((2, 1), low=100)
    rotta.start_test(detector)
    rotta._memory.timeliness = 0.0
    answer = rotta.predict(detector, clips)
    assert torch.equal(answer.logits, teacher(clips.frames, clips.boxes, clips.clip_index).logits)
    kept = rotta._memory.kept
    assert 1 <= len(kept) <= 3
    where = [clips.people.index(one.item.people[0]) for one in kept]
    frames, boxes = clips.frames[clips.clip_index[where]], clips.boxes[where]
    mirrored = boxes.clone()
    mirrored[:, [0, 2]] = frames.shape[-1] - boxes[:, [2, 0]]
    layers = [layer for network in (teacher, student) for layer in network.modules()]
    layers = [layer for layer in layers if isinstance(layer, torch.nn.BatchNorm3d)]
    with robust_statistics(layers, 0.2):
        with torch.no_grad():
            answers = teacher(frames, boxes, torch.arange(len(kept))).logits
        said = student(frames.flip(-1), mirrored, torch.arange(len(kept))).logits
    ages = torch.tensor([float(3 - place) for place in where]) / 4
    soft = answers.sigmoid()
    entropy = -(soft * said.sigmoid().log() + (1 - soft) * (1 - said.sigmoid()).log()).sum(dim=1)
    (entropy / (1 + ages.exp())).mean().backward()
    scales = [(name, value) for name, value in student.named_parameters() if value.dim() == 1 and "head" not in name]
    moved = 0
    for name, value in scales:
        expected = value.detach() - 0.01 * value.grad / (value.grad.abs() + 1e-8)
        found = detector.get_parameter(name)
        sure = value.grad.abs() > 1e-5  # of smaller gradients the sign is rounding
        torch.testing.assert_close(found.detach()[sure], expected[sure], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(rotta._teacher.get_parameter(name), 0.9 * value.detach() + 0.1 * found.detach())
        moved += int(sure.sum())
    assert moved > 10
    for name, value in student.named_buffers():
        torch.testing.assert_close(detector.get_buffer(name), value)
    for name, value in teacher.named_buffers():
        torch.testing.assert_close(rotta._teacher.get_buffer(name), value)
    rotta.end_test(detector)


def test_people_are_counted_over_batches(detector):
    rotta = method("rotta", detector, update_interval=5, lr=0.01)
    rotta.start_test(detector)
    before = torch.cat([value.detach().flatten() for value in rotta._chosen])
    changed = []
    for seed in range(4):
        rotta.predict(detector, batch((2, 1), seed=seed, low=100))
        changed.append(not torch.equal(before, torch.cat([value.detach().flatten() for value in rotta._chosen])))
    assert changed == [False, True, True, True]
    rotta.end_test(detector)


def test_of_fifty_classes_the_fourteen_that_have_mass_are_categories():
    rotta = create_adaptation("rotta", feature_dim=3, num_classes=50)
    probabilities = torch.full((20, 50), 1e-3)
    probabilities[:, :14] = 0.2
    rotta.find_support(probabilities)
    rotta.forget()
    assert len(rotta._memory._kept) == 14
    assert rotta.supported(torch.zeros(2, 50)).shape == (2, 14)


def test_a_person_is_remembered_alone_and_not_changed_by_what_follows():
    clips = batch((2, 1))
    last = one_person(clips, 2)
    assert (len(last), last.num_boxes, last.clip_index.tolist()) == (1, 1, [0])
    assert last.keys == clips.keys[1:]
    assert last.people == clips.people[2:]
    assert torch.equal(last.frames[0], clips.frames[1])
    clips.frames.zero_()
    assert last.frames.any()
    assert augment_batch(last, create_adaptation("rotta", feature_dim=3, num_classes=C).view).num_boxes == 1


def test_clips_of_different_size_are_apart(detector):
    rotta = method("rotta", detector, update_interval=4, lr=0.01)
    wide = batch((1, 1), seed=1)
    wide.frames = torch.cat([wide.frames, wide.frames[..., :16]], dim=-1)
    rotta.start_test(detector)
    rotta.predict(detector, batch((1, 1), low=100))
    rotta.predict(detector, wide)
    assert rotta._met == 4
    assert sorted(map(len, same_size(rotta._memory.kept))) in ([1, 1], [1, 2], [2, 2])
    rotta.end_test(detector)


def test_without_source_people_there_are_no_rates(detector):
    rotta = create_adaptation("rotta", feature_dim=detector.feature_dim, num_classes=C)
    with pytest.raises(InputError, match=r"'rotta'.*source"):
        rotta.prepare(detector, [batch((0, 0))], [])
    rotta.prepare(detector, [batch((2,), seed=1), batch((1,), seed=2)], [])
    said = [
        detector(b.frames, b.boxes, b.clip_index).logits.detach() for b in (batch((2,), seed=1), batch((1,), seed=2))
    ]
    torch.testing.assert_close(rotta.rates, torch.cat(said).sigmoid().mean(dim=0))


def test_the_newest_weigh_one_half():
    assert timeliness(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.5, 1 / (1 + math.e)])


@pytest.mark.parametrize("wrong", [{"decay": 1.5}, {"momentum": -0.1}, {"memory": 0}, {"update_interval": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        create_adaptation("rotta", wrong, feature_dim=3, num_classes=C)
