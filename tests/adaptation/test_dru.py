"""When the teacher follows, what of the student goes back, and whose labels are learnt."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from online_cases import batch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.dru import put_back, slice_variance
from microg_da.errors import InputError
from microg_da.models import create_detector

C = 3


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    made = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[4, 4, 4, 4]).eval()
    torch.nn.init.normal_(made.head.projection.weight, std=1.0)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 0.0  # statistics would change what the student says, too
    return made


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def ready(detector, target=(), **arguments):
    dru = create_adaptation("dru", arguments, feature_dim=detector.feature_dim, num_classes=C)
    dru.before_training(detector.eval(), [], list(target))
    detector.train()
    return dru


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def shift(network, by=0.1):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by)


def scaled(network, factor):
    """Logits, and with them their variance over slices, become larger or smaller."""
    with torch.no_grad():
        network.head.projection.weight.mul_(factor)


def step(dru, detector, factor, target=None):
    """A step whose optimiser scales the classifier."""
    losses = dru.step_losses(detector, None, batch((2, 1)) if target is None else target, 0.5)
    scaled(detector, factor)
    dru.after_step(detector)
    return losses


def test_the_variance_over_slices_is_numpys():
    logits = torch.randn(4, 3, 5)
    expected = np.var(logits.numpy(), axis=1, ddof=1).mean()
    assert float(slice_variance(logits)) == pytest.approx(float(expected), rel=1e-5)
    assert float(slice_variance(torch.ones(2, 2, 3))) == 0


def test_the_teacher_follows_a_student_that_becomes_surer(detector):
    dru = ready(detector, decay=0.5)
    before = state(dru.teacher.network)
    step(dru, detector, 0.9)
    name = "head.projection.weight"
    expected = torch.lerp(before[name], detector.get_parameter(name).detach(), 0.5 / (1 - 0.5**2))
    torch.testing.assert_close(dru.teacher.network.get_parameter(name), expected)
    assert not dru._watched


def test_a_student_that_does_not_is_put_back_in_part_when_patience_ends(detector):
    dru = ready(detector, patience=3)
    teacher, source = state(dru.teacher.network), state(detector)
    for steps in (1, 2, 3):
        step(dru, detector, 3.0)
        if steps < 3:
            assert len(dru._watched) == steps
            assert not torch.equal(detector.head.projection.weight, source["head.projection.weight"])
        with torch.no_grad():
            next(detector.backbone.parameters()).add_(1e-3)
    assert same(state(dru.teacher.network), teacher)
    assert not dru._watched
    last = f"backbone.{detector.backbone.stages[-1]}."
    found = state(detector)
    back = [name for name in found if name.startswith(("head.", last))]
    assert back
    assert all(torch.equal(found[name], source[name]) for name in back)
    first = next(iter(dict(detector.named_parameters())))
    assert not torch.equal(found[first], source[first])


def test_half_of_the_watched_batches_are_enough(detector, monkeypatch):
    dru = ready(detector)
    clips = batch((1,))
    for before, after, expected in (
        ([1.0, 1.0], [0.9, 1.1], True),
        ([1.0, 1.0, 1.0], [0.9, 1.1, 1.1], False),
        ([1.0], [1.0], False),
        ([None, 1.0], [None, 0.5], True),
        ([None], [None], False),
    ):
        dru._watched = [type("Watched", (), {"clips": clips, "disagreement": value})() for value in before]
        later = iter(after)
        monkeypatch.setattr(dru, "_disagreement", lambda *_, later=later: next(later))
        assert dru.is_surer(detector) is expected


def test_parts_that_are_put_back_include_statistics_and_no_others(detector):
    past, other = copy.deepcopy(detector), copy.deepcopy(detector)
    for network, by in ((past, 1.0), (other, 2.0)):
        shift(network, by)
        for name, value in network.named_buffers():
            if "running" in name:
                value.add_(by)
    stages = detector.backbone.stages
    for count in range(len(stages) + 1):
        student = copy.deepcopy(other)
        put_back(student, past, stages, count)
        for name, value in student.state_dict().items():
            is_back = name.startswith(("head.", *(f"backbone.{stage}." for stage in stages[len(stages) - count :])))
            assert torch.equal(value, (past if is_back else other).state_dict()[name])


def test_the_past_student_is_the_one_after_the_teachers_last_move(detector):
    dru = ready(detector, patience=9)
    step(dru, detector, 0.9)
    after_move = state(detector)
    for _ in range(2):
        step(dru, detector, 1.2)
        assert torch.equal(dru.past.head.projection.weight, after_move["head.projection.weight"])
    dru.before_epoch(detector, [], 1)
    newest = detector.head.projection.weight.detach().clone()
    dru.step_losses(detector, None, batch((2, 1)), 0.5)
    assert torch.equal(dru.past.head.projection.weight, newest)


def explicit(logits, labels, trusted):
    """Mean over all entries of the cross-entropies of trusted ones."""
    p = logits.sigmoid()
    return -(trusted * (labels * p.log() + (1 - labels) * (1 - p).log())).sum() / logits.numel()


def test_losses_and_gradients_are_those_of_both_labellers_on_both_views(detector, monkeypatch):
    dru = ready(detector, weight=0.7, past_weight=0.5, masked_weight=0.3, positive=1.0, negative=1.0)
    target = batch((2, 1), low=100)
    dru.find_support(torch.tensor([[0.6, 0.9, 0.0]]))
    for thresholds in (dru.thresholds, dru.past_thresholds):
        thresholds.expect(torch.tensor([[0.4, 0.7, 0.4]]))
    monkeypatch.setattr("microg_da.adaptation.dru.mask_patches", lambda clips, *_: clips)
    dru.strong_view.flip, dru.strong_view.colour, dru.strong_view.scale = 0.0, 0.0, [1.0, 1.0]
    shift(dru.teacher.network, 0.02)
    views = target.frames, target.boxes, target.clip_index
    student = copy.deepcopy(detector)
    past = copy.deepcopy(detector).eval()
    said = [network(*views).logits.detach().sigmoid() for network in (dru.teacher.network, past)]
    losses = dru.step_losses(detector, None, target, 0.5)
    support = torch.tensor([1.0, 1.0, 0.0])
    twice = torch.cat([target.frames] * 2), torch.cat([target.boxes] * 2), torch.cat([views[2], views[2] + 2])
    plain, masked = student(*twice).logits.chunk(2)
    expected = {}
    for name, probabilities, weight in (("pseudo_label", said[0], 0.7), ("historical", said[1], 0.35)):
        ranked = probabilities.sort(dim=0, descending=True).values
        above = ranked[[1, 2, 1], [0, 1, 2]]  # of three people, ⌊3 · 0.4⌋ = 1 and ⌊3 · 0.7⌋ = 2 have the class
        below = ranked[[2, 2, 2], [0, 1, 2]]  # and those after the first ⌈1.2⌉ = 2 and ⌈2.1⌉ = 3 (all) have it not
        labels = (probabilities > above).float() * support
        trusted = torch.maximum(labels, (probabilities < below).float() * support)
        if name == "historical":
            trusted = trusted * torch.maximum(probabilities, 1 - probabilities)
        expected[name] = weight * (explicit(plain, labels, trusted) + 0.3 * explicit(masked, labels, trusted))
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-5, rtol=1e-4)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    rows = detector.head.projection.weight.grad
    torch.testing.assert_close(rows, student.head.projection.weight.grad, atol=1e-5, rtol=1e-3)
    assert (rows[2] == 0).all()
    assert rows[:2].abs().sum() > 0


def test_class_rates_of_both_labellers_are_what_the_source_model_expects(detector):
    target = [batch((2, 1), seed=1), batch((0,), seed=2), batch((1,), seed=3)]
    dru = ready(detector, target)
    detector.eval()
    said = torch.cat([detector(b.frames, b.boxes, b.clip_index).logits.detach().sigmoid() for b in target])
    for thresholds in (dru.thresholds, dru.past_thresholds):
        torch.testing.assert_close(thresholds.positives / thresholds.people, said.mean(0))


def test_batches_without_people_move_nothing_and_end_patience(detector):
    dru = ready(detector, patience=2)
    before = state(dru.teacher.network)
    for _ in range(2):
        losses = step(dru, detector, 0.5, batch((0, 0)))
        assert all(float(loss.detach()) == 0 for loss in losses.values())
    assert same(state(dru.teacher.network), before)
    assert not dru._watched


def test_measuring_leaves_modes_and_statistics(detector):
    dru = ready(detector)
    before, modes = state(detector), [module.training for module in detector.modules()]
    assert dru._disagreement(detector, batch((2, 1))) > 0
    assert same(state(detector), before)
    assert [module.training for module in detector.modules()] == modes


def test_the_teacher_is_validated_and_handed_over(detector):
    dru = ready(detector)
    shift(dru.teacher.network)
    teacher = state(dru.teacher.network)
    assert dru.network(detector) is dru.teacher.network
    dru.after_training(detector)
    assert same(state(detector), teacher)
    assert dru.network(detector) is detector
    with pytest.raises(RuntimeError, match="before_training"):
        dru.step_losses(detector, None, batch(), 0.5)


def test_a_student_in_agreement_with_its_labels_has_no_gradient_from_classes_it_lacks():
    """Fifty classes of which the source model gives mass to fourteen: labels and losses have no others."""
    dru = create_adaptation("dru", {"positive": 1.0, "negative": 1.0}, feature_dim=4, num_classes=50)
    probabilities = torch.rand(30, 50, generator=torch.Generator().manual_seed(0)) * 1e-3
    probabilities[:, :14] *= 500
    dru.find_support(probabilities)
    dru.thresholds.expect(probabilities)
    pseudo = dru.label(probabilities)
    assert (pseudo.trusted[:, 14:] == 0).all()
    assert pseudo.trusted[:, :14].any(dim=0).all()
    logits = torch.randn(30, 50, requires_grad=True)
    F.binary_cross_entropy_with_logits(logits, pseudo.labels, weight=pseudo.trusted).backward()
    assert (logits.grad[:, 14:] == 0).all()


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"slices": 1}, {"masked": 1.0}, {"patches": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        create_adaptation("dru", wrong, feature_dim=3, num_classes=C)


def test_more_stages_than_there_are_is_refused(detector):
    dru = create_adaptation("dru", {"stages": 9}, feature_dim=detector.feature_dim, num_classes=C)
    with pytest.raises(InputError, match="stages=9"):
        dru.check_detector(detector)
