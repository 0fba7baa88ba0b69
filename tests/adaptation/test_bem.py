"""Binding and the bound entropy, against loops over people and the softmax entropy."""

import copy

import pytest
import torch
from online_cases import batch, method, trained_detector
from scipy.stats import entropy

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.bem import bind, bound_entropy, expected_labels
from microg_da.errors import InputError

C = 6


def views_of(count, people=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, people, C, generator=generator, dtype=torch.float64)


def test_binding_lifts_the_likeliest_to_the_first_and_leaves_the_rest():
    logits = torch.tensor([[3.0, 1, 2, -1, 0, -2]])
    assert bind(logits, torch.tensor([3])).tolist() == [[3, 3, 3, -1, 0, -2]]
    assert torch.equal(bind(logits, torch.tensor([1])), logits)


def test_bound_classes_keep_the_gradient_of_their_own():
    logits = views_of(1)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(bind(logits, torch.full((4,), 3)).sum(), [logits])
    assert torch.equal(gradient, torch.ones_like(gradient))


def explicit(logits, kept):
    """The formula person by person, view by view."""
    losses = []
    for person in range(logits.shape[1]):
        count = max(1, min(C, round(float(torch.sigmoid(logits[:, person].detach()).mean(0).sum()))))
        views = []
        for view in logits[:, person]:
            top = view.topk(count).indices
            lifted = view.clone()
            lifted[top] = view[top] + (view.max() - view[top]).detach()
            views.append(lifted.softmax(0))
        views.sort(key=lambda p: entropy(p.detach().numpy()))
        mean = torch.stack(views[: max(1, int(kept * len(views)))]).mean(0)
        losses.append(-(mean * mean.log()).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("views", "kept"), [(1, 1.0), (4, 1.0), (4, 0.5), (8, 0.1)])
def test_value_and_gradient_are_those_of_a_loop(views, kept):
    logits = views_of(views, seed=views).requires_grad_()
    loss, expected = bound_entropy(logits, kept), explicit(logits, kept)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    (ours,), (theirs,) = torch.autograd.grad(loss, [logits]), torch.autograd.grad(expected, [logits])
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-5)


def test_with_one_expected_label_and_one_view_it_is_the_entropy_of_the_softmax():
    logits = views_of(1) - 6.0
    assert expected_labels(logits).tolist() == [1] * 4
    expected = entropy(logits[0].softmax(1).numpy(), axis=1).mean()
    assert float(bound_entropy(logits, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_both_labels_rise_where_plain_entropy_lifts_the_first_alone():
    start = torch.tensor([[[2.0, 1.0, -2, -2, -2, -2]]])
    logits = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bound_entropy(logits, 1.0), [logits])
    assert (gradient[0, 0, :2] < 0).all()
    plain = start.clone().requires_grad_()
    p = plain.softmax(2)
    (alone,) = torch.autograd.grad(-(p * p.log()).sum(), [plain])
    assert alone[0, 0, 0] < 0 < alone[0, 0, 1]


@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_answers_that_are_all_alike_have_a_finite_gradient(value):
    """No class expected, and every class expected."""
    logits = torch.full((3, 2, C), value, requires_grad=True)
    bound_entropy(logits, 0.5).backward()
    assert torch.isfinite(logits.grad).all()


def test_one_class_has_nothing_to_learn():
    logits = torch.randn(3, 2, 1, requires_grad=True)
    loss = bound_entropy(logits, 0.5)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_step_lowers_the_loss_of_its_batch():
    detector = trained_detector()
    clips = batch((2, 1), low=100)
    losses = []
    for lr in (0.0, 1e-3):
        network = copy.deepcopy(detector)
        bem = method("bem", network, lr=lr, steps=3, rolls=1, flips=False, view_fraction=1.0)
        bem.start_test(network)
        losses.append(float(bound_entropy(bem.predict(network, clips).logits[None], 1.0)))
        bem.end_test(network)
    assert losses[1] < losses[0]


def test_a_share_out_of_range_is_refused():
    with pytest.raises(InputError, match="view_fraction"):
        create_adaptation("bem", {"view_fraction": 0.0}, feature_dim=3, num_classes=C)
