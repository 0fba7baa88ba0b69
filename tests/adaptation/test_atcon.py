"""Consistency across temporal slices: values and gradients against numpy and scipy, and what training on it does."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import bernoulli, entropy
from torch import nn

from microg_da.adaptation.atcon import VARIANCE_FLOOR, confidence_weights, feature_consistency, prediction_consistency
from microg_da.adaptation.base import create_adaptation
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey

K, S, C, D = 7, 3, 4, 5


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_feature_consistency_equals_numpys_correlation():
    features = 10 * random(K, S, D)  # so large that the floor of variances does not count
    expected = []
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        matrix = np.corrcoef(features[:, first], features[:, second], rowvar=False)[:D, D:]
        off = matrix[~np.eye(D, dtype=bool)]
        expected.append(np.mean((1 - np.diag(matrix)) ** 2) + 0.3 * np.mean(off**2))
    assert float(feature_consistency(features, 0.3)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_feature_consistency_gradient():
    features = random(K, 2, D).double().requires_grad_()

    def explicit(x):
        a, b = x.unbind(dim=1)
        a, b = ((part - part.mean(0)) / (part.var(0, correction=0) + VARIANCE_FLOOR).sqrt() for part in (a, b))
        matrix = torch.einsum("ki,kj->ij", a, b) / K
        target = torch.eye(D)
        weights = torch.where(target > 0, 1 / D, 0.3 / (D * (D - 1)))
        return (weights * (matrix - target) ** 2).sum()

    ours, theirs = (
        torch.autograd.grad(f, features)[0] for f in (feature_consistency(features, 0.3), explicit(features))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_equal_and_uncorrelated_features_are_consistent():
    # Columns of a Hadamard matrix: no two features are correlated.
    columns = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    features = 10 * columns[:, None].expand(4, S, 3)
    assert float(feature_consistency(features, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(feature_consistency(torch.cat([features[:, :1], -features[:, :1]], dim=1), 1.0)) == pytest.approx(4)


@pytest.mark.parametrize("shape", [(0, S, D), (1, S, D), (K, 1, D), (2, 2, 1)])
def test_feature_consistency_of_hardly_anything(shape):
    features = torch.zeros(shape, requires_grad=True)
    loss = feature_consistency(features, 0.3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()
    assert loss == 0 or shape == (2, 2, 1)


def test_prediction_consistency_is_the_weighted_divergence_of_the_mean_from_each_slice():
    logits = 2 * random(K, S, C)
    p = expit(logits.numpy().astype(float))
    mean = np.broadcast_to(p.mean(axis=1, keepdims=True), p.shape)
    divergence = [entropy([b, 1 - b], [a, 1 - a]) for a, b in zip(p.ravel(), mean.ravel(), strict=True)]
    weights = S * confidence_weights(logits).numpy()
    expected = np.mean(np.reshape(divergence, p.shape) * weights[:, :, None])
    assert float(prediction_consistency(logits)) == pytest.approx(expected, rel=1e-4)


def test_prediction_consistency_gradient():
    logits = (2 * random(K, S, C)).requires_grad_()
    (ours,) = torch.autograd.grad(prediction_consistency(logits), logits)
    p = torch.sigmoid(logits.detach())
    mean = p.mean(dim=1, keepdim=True)
    w = S * confidence_weights(logits.detach())[:, :, None]
    # The slice as second argument: w (p - mean) by its logit; as a part of the mean: the mean of w (logits' difference).
    through_mean = (w * (torch.logit(mean) - logits.detach())).mean(dim=1, keepdim=True) * p * (1 - p)
    torch.testing.assert_close(ours, (w * (p - mean) + through_mean) / p.numel(), rtol=1e-3, atol=1e-6)


def test_slices_that_agree_are_consistent_and_the_order_does_not_matter():
    logits = random(K, S, C)
    assert prediction_consistency(logits[:, :1].expand(K, S, C)).abs() < 1e-6
    assert prediction_consistency(logits) > 0
    torch.testing.assert_close(prediction_consistency(logits), prediction_consistency(logits.flip(1)))


@pytest.mark.parametrize("people", [0, 1])
def test_prediction_consistency_of_few_people(people):
    logits = torch.zeros(people, S, C, requires_grad=True)
    prediction_consistency(logits).backward()
    assert logits.grad.shape == logits.shape


def test_confidence_weights():
    logits = 3 * random(K, S, C)
    confidence = 1 - bernoulli(expit(logits.numpy())).entropy().mean(axis=2) / math.log(2)
    expected = (1 + confidence) / (1 + confidence).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(confidence_weights(logits), expected, rtol=1e-4)
    # A sure slice counts at most twice as much as one that knows nothing.
    weights = confidence_weights(torch.tensor([[[40.0], [0.0]]]))
    torch.testing.assert_close(weights, torch.tensor([[2 / 3, 1 / 3]]))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0).eval()


def clips(count):
    generator = torch.Generator().manual_seed(count)
    frames = torch.randint(0, 256, (count, 3, 8, 48, 48), dtype=torch.uint8, generator=generator)
    box = torch.tensor([[4.0, 4, 40, 44]])
    return collate_clips([Clip(f, box, box / 48, ClipKey(f"v_{i}", 1)) for i, f in enumerate(frames)])


def test_a_prediction_is_the_plain_detectors_where_slices_weigh_the_same(detector):
    batch = clips(3)
    method = create_adaptation("atcon", {"slices": 2}, feature_dim=detector.feature_dim, num_classes=C)
    plain = detector(batch.frames, batch.boxes, batch.clip_index)
    one = create_adaptation("atcon", {"slices": 1}, feature_dim=detector.feature_dim, num_classes=C)
    torch.testing.assert_close(one.companion.predict(detector, batch), plain)
    # A classifier without an opinion is equally sure of everything.
    nn.init.zeros_(detector.head.projection.weight)
    torch.testing.assert_close(method.companion.predict(detector, batch).features, plain.features)


def test_a_sure_slice_counts_for_more():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0).eval()
    nn.init.normal_(detector.head.projection.weight, std=1.0)
    batch = clips(4)
    method = create_adaptation("atcon", {"slices": 2}, feature_dim=detector.feature_dim, num_classes=C)
    local, grids = detector.local_predictions(batch.frames, batch.boxes, batch.clip_index, 2)
    weights = confidence_weights(local.logits)
    expected = sum(weights[:, s, None, None, None] * grids[:, s] for s in range(2)).flatten(2).max(dim=2).values
    torch.testing.assert_close(method.companion.predict(detector, batch).features, expected)
    assert (weights[:, 0] - weights[:, 1]).abs().max() > 0.01


def test_training_makes_slices_agree():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0).eval()
    nn.init.normal_(detector.head.projection.weight, std=0.5)
    batch = clips(8)
    alone = {"entropy_weight": 0.0, "prior_weight": 0.0, "pseudo_label_weight": 0.0}
    method = create_adaptation("atcon", alone, feature_dim=detector.feature_dim, num_classes=C)
    method.before_training(detector, [], [batch])
    method.before_epoch(detector, [batch], 0)
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    history = []
    for step in range(25):
        optimizer.zero_grad()
        losses = method.step_losses(detector, None, batch, step / 25)
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert history[-1]["prediction_consistency"] < 0.5 * history[0]["prediction_consistency"]
    assert history[-1]["feature_consistency"] < history[0]["feature_consistency"]
