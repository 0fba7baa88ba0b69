"""Agreement between rolls: values and gradients against explicit ones, and a detector that learns to agree."""

import pytest
import torch
from scipy.special import kl_div
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.rotation_consistency import (
    anchored,
    cosine_distance,
    mean_view,
    seen_mean,
    squared_difference,
    symmetric_divergence,
)
from microg_da.errors import InputError
from microg_da.types import ClipBatch, ClipKey, Prediction

D, C = 6, 4


def views(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        Prediction(*(torch.randn(count, width, generator=generator, requires_grad=True) for width in (C, D)))
        for _ in range(2)
    )


def method_with(**arguments):
    return create_adaptation("rotation_consistency", arguments, feature_dim=D, num_classes=C)


def test_the_divergence_is_that_of_scipy():
    first, second = (3 * torch.randn(5, C) for _ in range(2))
    p, q = (x.double().sigmoid().numpy() for x in (first, second))
    both = [kl_div(a, b) + kl_div(1 - a, 1 - b) for a, b in ((p, q), (q, p))]
    expected = 0.5 * (both[0] + both[1]).mean(axis=1)
    assert symmetric_divergence(first, second).numpy() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(symmetric_divergence(first, second), symmetric_divergence(second, first))
    assert not symmetric_divergence(first, first).any()
    assert float(symmetric_divergence(torch.full((1, C), 200.0), torch.full((1, C), -200.0))) == 200.0


def test_gradients_of_the_distances():
    first, second = views(3)
    (gradient,) = torch.autograd.grad(symmetric_divergence(first.logits, second.logits).sum(), first.logits)
    p, q = first.logits.sigmoid(), second.logits.sigmoid()
    expected = 0.5 * (p * (1 - p) * (first.logits - second.logits) + p - q) / C
    assert torch.allclose(gradient, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(squared_difference(first.logits, second.logits).sum(), first.logits)
    assert torch.allclose(gradient, 2 * (p - q) * p * (1 - p) / C, atol=1e-6)
    a, b = first.features, second.features
    (gradient,) = torch.autograd.grad(cosine_distance(a, b).sum(), a)
    cosine = (a * b).sum(1, keepdim=True) / a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
    expected = cosine * a / a.square().sum(1, keepdim=True) - b / a.norm(dim=1, keepdim=True) / b.norm(
        dim=1, keepdim=True
    )
    assert torch.allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize(("anchor", "moves"), [("upright", [[0, 0, 0], [1, 1, 1]]), ("none", [[1, 1, 1], [1, 1, 1]])])
def test_a_fixed_view_gets_no_gradient(anchor, moves):
    first, second = views(3)
    a, b = anchored(first, second, anchor)
    symmetric_divergence(a.logits, b.logits).sum().backward()
    for view, expected in zip((first, second), moves, strict=True):
        gradient = view.logits.grad if view.logits.grad is not None else torch.zeros(3, C)
        assert gradient.abs().sum(dim=1).gt(0).tolist() == [bool(move) for move in expected]


def test_the_surer_view_of_each_person_is_fixed():
    first, second = (Prediction(torch.zeros(3, C), torch.randn(3, D, requires_grad=True)) for _ in range(2))
    first.logits[:, 0] = torch.tensor([2.0, -1, 3])
    second.logits[:, 1] = torch.tensor([1.0, 4, 3])
    first, second = (Prediction(view.logits.clone().requires_grad_(), view.features) for view in (first, second))
    a, b = anchored(first, second, "confident")
    (symmetric_divergence(a.logits, b.logits).sum() + cosine_distance(a.features, b.features).sum()).backward()
    for part in ("logits", "features"):
        moved = [getattr(view, part).grad.abs().sum(dim=1).gt(0).tolist() for view in (first, second)]
        assert moved == [[False, True, False], [True, False, True]]  # of two alike the upright one stays


def test_the_mean_view_is_the_mean_over_rolls_and_both_views_are_drawn_to_it():
    first, second = views(3)
    weights = torch.stack([-torch.distributions.Bernoulli(logits=v.logits).entropy().sum(1) for v in (first, second)])
    weights = weights.softmax(dim=0)[:, :, None]
    middle = (weights * torch.stack([first.logits, second.logits]).sigmoid()).sum(dim=0)
    torch.testing.assert_close(mean_view(first.logits, second.logits).sigmoid(), middle.detach())
    method = method_with(weight=1.0, distance="squared")
    loss = method.consistency(first, second, torch.ones(3))["consistency"]
    expected = sum(0.5 * (v.logits.sigmoid() - middle).square().mean() for v in (first, second))
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, [first.logits, second.logits])
    for view, gradient in zip((first, second), gradients, strict=True):
        p = view.logits.detach().sigmoid()
        torch.testing.assert_close(gradient, (p - middle.detach()) * p * (1 - p) / p.numel())


def test_people_out_of_the_picture_do_not_count():
    values = torch.tensor([1.0, 5, 3], requires_grad=True)
    assert float(seen_mean(values, torch.tensor([1.0, 0, 1])).detach()) == 2
    seen_mean(values, torch.zeros(3)).backward()
    assert values.grad.tolist() == [0, 0, 0]
    assert float(seen_mean(torch.zeros(0), torch.zeros(0))) == 0


def test_the_weights_of_both_distances():
    first, second = views(4)
    seen = torch.tensor([1.0, 1, 0, 1])
    method = method_with(weight=0.5, feature_weight=0.2, distance="squared", anchor="none")
    losses = method.consistency(first, second, seen)
    expected = (first.logits.sigmoid() - second.logits.sigmoid()).square().mean(dim=1)[[0, 1, 3]].mean()
    assert torch.allclose(losses["consistency"], 0.5 * expected)
    cosine = nn.CosineSimilarity()(first.features, second.features)
    assert torch.allclose(losses["feature_consistency"], 0.2 * (1 - cosine)[[0, 1, 3]].mean())


class Halves(nn.Module):
    """Features are the brightness of the picture's upper, lower, left and right half."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(4, C)
        self.passes = []

    def forward(self, frames, boxes, clip_index):
        self.passes.append(len(frames))
        picture = frames.float().mean(dim=(1, 2)) / 255
        middle = picture.shape[-1] // 2
        halves = [picture[:, :middle], picture[:, middle:], picture[:, :, :middle], picture[:, :, middle:]]
        features = torch.stack([half.mean(dim=(1, 2)) for half in halves], dim=1)[clip_index]
        return Prediction(self.projection(features), features)


def batch(count, labelled=True):
    frames = torch.randint(0, 256, (count, 3, 2, 16, 16), dtype=torch.uint8)
    frames[:, :, :, :8] //= 3  # darker above
    boxes = torch.tensor([[4.0, 4, 12, 12]]).repeat(count, 1)
    keys = tuple(ClipKey(f"v_{index}", 1) for index in range(count))
    labels = torch.zeros(count, C) if labelled else None
    batch = ClipBatch(frames, boxes, torch.arange(count), boxes / 16, keys, "source" if labelled else "target")
    return batch if labels is None else batch.with_labels(labels)


def brightness(detector):
    return float(detector.projection.weight.detach().mean(dim=1).norm())


@pytest.mark.parametrize("anchor", ["mean", "confident", "upright", "none"])
def test_a_detector_learns_to_answer_alike_under_every_roll(anchor):
    torch.manual_seed(0)
    detector = Halves()
    nn.init.normal_(detector.projection.weight, std=4)
    method = method_with(anchor=anchor, feature_weight=0.0)
    before = brightness(detector)
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.05)
    values = []
    for _ in range(120):
        loss = method.step_losses(detector, batch(1), batch(16, labelled=False), 1.0)["consistency"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-10:]) < 0.1 * sum(values[:10])
    # It answers alike because it no longer asks which half is brighter; how bright all is it may ask as before.
    assert brightness(detector) > 0.5 * before


@pytest.mark.parametrize(("count", "clips"), [(8, 4 + 8), (5, 4 + 6), (1, 4 + 2), (0, 4)])
def test_one_pass_over_the_source_and_as_many_views_as_target_clips(count, clips):
    detector = Halves()
    losses = method_with().step_losses(detector, batch(4), batch(count, labelled=False), 0.5)
    assert detector.passes == [clips]
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in detector.parameters())


@pytest.mark.parametrize(("argument", "value"), [("anchor", "uprite"), ("distance", "kl")])
def test_unknown_ways_are_named(argument, value):
    with pytest.raises(InputError, match=value):
        method_with(**{argument: value})
