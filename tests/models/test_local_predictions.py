"""Predictions of temporal slices against those of the whole clip."""

import pytest
import torch

from microg_da.models import create_detector
from microg_da.models.detector import ActionDetector
from microg_da.models.roi_head import RoIHead

BOXES = torch.tensor([[4.0, 4.0, 30.0, 60.0], [10.0, 0.0, 64.0, 64.0], [1.0, 2.0, 20.0, 30.0]])
INDEX = torch.tensor([0, 1, 1])


def feature_maps(*lengths, channels=(5, 3)):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, c, T, 4, 4, generator=generator) for c, T in zip(channels, lengths, strict=True))


@pytest.fixture
def head():
    return RoIHead((5, 3), 4, stride=16, dropout=0.0)


def test_one_slice_is_the_clip(head):
    maps = feature_maps(3, 8)
    logits, features = head.classify(head.local_grids(maps, BOXES, INDEX, 1))
    expected_logits, expected = head(maps, BOXES, INDEX)
    torch.testing.assert_close(features[:, 0], expected)
    torch.testing.assert_close(logits[:, 0], expected_logits)


def test_the_mean_over_slices_is_the_clip(head):
    maps = feature_maps(4, 8)
    logits, features = head.classify(head.local_grids(maps, BOXES, INDEX, 4).mean(dim=1))
    expected_logits, expected = head(maps, BOXES, INDEX)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected_logits)


@pytest.mark.parametrize(
    ("length", "slices", "cells"),
    [
        (4, 2, [(0, 2), (2, 4)]),
        (5, 2, [(0, 3), (2, 5)]),
        (2, 4, [(0, 1), (0, 1), (1, 2), (1, 2)]),
        (1, 2, [(0, 1), (0, 1)]),
    ],
)
def test_a_slice_is_a_clip_of_its_own(head, length, slices, cells):
    maps = feature_maps(length, length)
    _, features = head.classify(head.local_grids(maps, BOXES, INDEX, slices))
    for index, (start, end) in enumerate(cells):
        part = tuple(pathway[:, :, start:end] for pathway in maps)
        torch.testing.assert_close(features[:, index], head(part, BOXES, INDEX)[1])


def small_zoo():
    # Deep networks answer slowly; what counts is the kind of feature maps, so one of each kind.
    return ["r2plus1d_tiny", "x3d_s_13x6", "slowfast_r50_4x16", "mvit_v2_s_16x4", "timm:resnet18"]


@pytest.mark.parametrize("name", small_zoo())
def test_every_kind_of_network_has_slices(name):
    torch.manual_seed(0)
    detector = create_detector(name, num_classes=4).eval()
    frames = torch.randint(0, 256, (2, 3, 16, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        local, grids = detector.local_predictions(frames, BOXES, INDEX, 2)
        whole = detector(frames, BOXES, INDEX)
        logits, features = detector.head.classify(grids.mean(dim=1))
    assert local.logits.shape == (3, 2, 4)
    assert local.features.shape == (3, 2, detector.feature_dim)
    torch.testing.assert_close(features, whole.features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_the_backbone_runs_once():
    detector = create_detector("r2plus1d_tiny", num_classes=4)
    calls = []
    detector.backbone.register_forward_hook(lambda *_: calls.append(1))
    detector.local_predictions(torch.zeros(2, 3, 8, 64, 64, dtype=torch.uint8), BOXES, INDEX, 2)
    assert len(calls) == 1


def test_nobody_in_any_slice():
    detector = create_detector("r2plus1d_tiny", num_classes=4)
    assert isinstance(detector, ActionDetector)
    local, _ = detector.local_predictions(
        torch.zeros(1, 3, 8, 64, 64, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 2
    )
    assert local.logits.shape == (0, 2, 4)
    local.logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in detector.parameters())


def test_half_precision_pools_slices_in_full_precision():
    head = RoIHead((3,), 2, stride=1)
    maps = torch.rand(1, 3, 2, 400, 400).bfloat16()
    box, index = torch.tensor([[301.3, 302.6, 399.0, 390.1]]), torch.tensor([0])
    grids = head.local_grids((maps,), box, index, 2)
    assert grids.dtype == torch.float32
    torch.testing.assert_close(grids, head.local_grids((maps.float(),), box, index, 2))
