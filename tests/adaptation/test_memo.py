"""Marginal entropy over views, against its definition; views and their gradients against plain autograd."""

import copy

import numpy as np
import pytest
import torch
from online_cases import C, batch, method, trained_detector
from scipy.special import expit
from scipy.stats import bernoulli, entropy

from microg_da.adaptation.memo import marginal_entropy
from microg_da.adaptation.view_steps import backward_through_views, mirrored, rolled_views
from microg_da.errors import InputError
from microg_da.transforms.rotation import roll_batch


@pytest.fixture(scope="module")
def trained():
    return trained_detector()


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def views_of(count=3, people=4, classes=C, seed=0):
    return 3 * torch.randn(count, people, classes, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_entropy_of_the_mean_probability():
    logits = views_of()
    mean = expit(logits.double().numpy()).mean(0)
    expected = np.mean([sum(bernoulli(p).entropy() for p in person) for person in mean])
    assert float(marginal_entropy(logits)) == pytest.approx(expected, rel=1e-5)


def test_with_one_class_value_and_gradient_are_the_papers_for_two_answers():
    """The paper's loss of the two logits (z, 0)."""
    ours = views_of(classes=1).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    mean = torch.softmax(torch.cat([theirs, torch.zeros_like(theirs)], dim=2), dim=2).mean(0)
    loss, expected = marginal_entropy(ours), -(mean * mean.log()).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(entropy(mean.detach().numpy(), axis=1).mean(), rel=1e-5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad.float(), atol=1e-6, rtol=1e-4)


def test_views_that_contradict_each_other_cost_most_though_each_is_sure():
    sure = torch.full((1, 1, 1), 30.0)
    assert float(marginal_entropy(torch.cat([sure, -sure]))) == pytest.approx(np.log(2), rel=1e-5)
    assert float(marginal_entropy(torch.cat([sure, sure]))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_extreme_answers_have_a_finite_gradient(value):
    logits = torch.full((2, 3, C), value, requires_grad=True)
    marginal_entropy(logits).backward()
    assert torch.isfinite(logits.grad).all()


def test_views_begin_as_the_clip_is_and_hold_every_roll_twice():
    clips = batch((2, 1))
    views = rolled_views(clips, 4, flips=True)
    assert len(views) == 8
    assert torch.equal(views[0].frames, clips.frames)
    quarter = roll_batch(clips, 90.0)
    assert torch.equal(views[1].frames, quarter.frames)
    torch.testing.assert_close(views[1].boxes, quarter.boxes)
    assert len(rolled_views(clips, 3, flips=False)) == 3
    with pytest.raises(InputError, match="rolls"):
        rolled_views(clips, 0, flips=False)


def test_a_box_stays_on_its_pixels_in_the_mirror():
    clips = batch((1,))
    x1, y1, x2, y2 = clips.boxes[0].long().tolist()
    clips.frames.zero_()
    clips.frames[..., y1:y2, x1:x2] = 200
    seen = mirrored(clips)
    x1, y1, x2, y2 = seen.boxes[0].long().tolist()
    assert (seen.frames[..., y1:y2, x1:x2] == 200).all()
    assert int((seen.frames == 200).sum()) == int((clips.frames == 200).sum())
    torch.testing.assert_close(mirrored(seen).boxes, clips.boxes)


def test_gradients_view_by_view_are_those_of_all_views_at_once(detector):
    views = rolled_views(batch((2, 1), low=100), 2, flips=True)
    one, other = copy.deepcopy(detector), copy.deepcopy(detector)
    logits = backward_through_views(one, views, marginal_entropy)
    at_once = torch.stack([other(view.frames, view.boxes, view.clip_index).logits for view in views])
    marginal_entropy(at_once).backward()
    torch.testing.assert_close(logits, at_once.detach())
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-3)


def test_a_step_lowers_the_marginal_entropy(detector):
    clips = batch((2, 1), low=100)
    memo = method("memo", detector, lr=1e-3, episodic=False, rolls=2)
    views = rolled_views(clips, 2, flips=True)

    def loss():
        with torch.no_grad():
            return float(
                marginal_entropy(torch.stack([detector(v.frames, v.boxes, v.clip_index).logits for v in views]))
            )

    before = loss()
    memo.start_test(detector)
    for _ in range(3):
        memo.predict(detector, clips)
    assert loss() < before
    memo.end_test(detector)
    assert loss() == pytest.approx(before, rel=1e-6)


def test_a_frozen_model_is_refused(detector):
    detector.requires_grad_(False)
    with pytest.raises(InputError, match=r"memo.*model\.freeze"):
        method("memo", detector).start_test(detector)
