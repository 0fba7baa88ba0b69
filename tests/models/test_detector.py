"""The detector: what goes in, what comes out, and where a box is looked for."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone import Backbone, normalise
from microg_da.models.detector import ActionDetector
from microg_da.models.roi_head import RoIHead


class Identity(Backbone):
    """The frames are the feature map: what the head does to a box can be seen by eye."""

    channels = (3,)
    stride = 1
    stages = ()

    def forward(self, frames):
        return (frames,)


def clip(B=2, T=4, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (B, 3, T, size, size), dtype=torch.uint8, generator=generator)


BOXES = torch.tensor([[4.0, 4.0, 30.0, 60.0], [10.0, 0.0, 64.0, 64.0], [1.0, 2.0, 20.0, 30.0]])
INDEX = torch.tensor([0, 1, 1])


def test_prediction_has_one_row_per_box():
    detector = create_detector("r2plus1d_tiny", num_classes=7).eval()
    prediction = detector(clip(), BOXES, INDEX)
    assert prediction.logits.shape == (3, 7)
    assert prediction.features.shape == (3, detector.feature_dim)
    assert detector.num_classes == 7
    expected = detector.head.projection(prediction.features)
    torch.testing.assert_close(prediction.logits, expected)


def test_features_are_those_before_dropout():
    detector = create_detector("r2plus1d_tiny", dropout=0.9).eval()
    before = detector(clip(), BOXES, INDEX)
    detector.head.dropout.train()
    after = detector(clip(), BOXES, INDEX)
    assert torch.equal(before.features, after.features)
    assert not torch.equal(before.logits, after.logits)


def test_no_boxes_forward_and_backward():
    detector = create_detector("r2plus1d_tiny")
    prediction = detector(clip(), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert prediction.logits.shape == (0, 50)
    prediction.logits.sum().backward()
    gradients = [p.grad for p in detector.parameters()]
    assert all(g is not None and not g.any() for g in gradients)


def test_uint8_is_normalised_and_float_is_not():
    frames = clip()
    by_hand = (frames.numpy().astype(np.float64) / 255 - 0.45) / 0.225
    np.testing.assert_allclose(normalise(frames).numpy(), by_hand, atol=1e-5)
    floats = torch.from_numpy(by_hand).float()
    assert normalise(floats) is floats
    detector = create_detector("r2plus1d_tiny").eval()
    torch.testing.assert_close(
        detector(frames, BOXES, INDEX).logits, detector(floats, BOXES, INDEX).logits, atol=1e-5, rtol=1e-4
    )


def test_normalising_does_not_change_the_callers_frames():
    frames = clip()
    before = frames.clone()
    normalise(frames)
    assert torch.equal(frames, before)


def test_each_box_reads_its_own_clip_and_place():
    frames = torch.zeros(2, 3, 2, 32, 32)
    frames[1, :, :, 8:16, 16:24] = 5.0
    head = RoIHead((3,), 2, stride=1)
    boxes = torch.tensor([[16.0, 8.0, 24.0, 16.0], [16.0, 8.0, 24.0, 16.0], [0.0, 20.0, 8.0, 28.0]])
    _, features = head((frames,), boxes, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(features, torch.tensor([0.0, 5.0, 0.0])[:, None].expand(3, 3))


def test_time_is_averaged():
    frames = torch.arange(4.0)[None, None, :, None, None].expand(1, 3, 4, 16, 16)
    _, features = RoIHead((3,), 2, stride=1)((frames,), torch.tensor([[2.0, 2.0, 9.0, 9.0]]), torch.tensor([0]))
    torch.testing.assert_close(features, torch.full((1, 3), 1.5))


@pytest.mark.parametrize(("given", "stride"), [("true", 32), (True, 32), ("published", 16), (24, 24)])
def test_roi_stride(given, stride):
    with torch.device("meta"):
        assert create_detector("x3d_s_13x6", roi_stride=given).head.stride == stride


def test_published_stride_looks_at_twice_the_coordinates():
    frames = torch.zeros(1, 3, 1, 4, 4)
    frames[..., 1, 1] = 1.0
    box, index = torch.tensor([[32.0, 32.0, 64.0, 64.0]]), torch.tensor([0])
    backbone = Identity()
    backbone.stride = 32
    right, wrong = (
        ActionDetector(backbone, 2, roi_stride=mode)(frames, box, index).features.max()
        for mode in ("true", "published")
    )
    assert right == 1.0
    assert wrong < 0.2


@pytest.mark.parametrize("bad", ["real", False, 0, -1, None])
def test_impossible_roi_stride(bad):
    with pytest.raises(InputError, match="roi_stride"):
        create_detector("r2plus1d_tiny", roi_stride=bad)


def test_unknown_model_and_option_name_the_nearest():
    with pytest.raises(InputError, match="slow_r50_8x8"):
        create_detector("slow_r50_8x9")
    with pytest.raises(InputError, match="stem_stride"):
        create_detector("r2plus1d_tiny", stem_strid=2)


def test_half_precision_pools_boxes_in_full_precision():
    head = RoIHead((3,), 2, stride=1)
    frames = torch.rand(1, 3, 1, 400, 400)
    box, index = torch.tensor([[301.3, 302.6, 399.0, 390.1]]), torch.tensor([0])
    half = frames.bfloat16()
    torch.testing.assert_close(head((half,), box, index)[1], head((half.float(),), box, index)[1])


def test_batch_norm_statistics_move_in_training_only():
    detector = create_detector("r2plus1d_tiny")
    norm = next(m for m in detector.modules() if isinstance(m, nn.BatchNorm3d))
    detector.eval()(clip(), BOXES, INDEX)
    assert norm.num_batches_tracked == 0
    detector.train()(clip(), BOXES, INDEX)
    assert norm.num_batches_tracked == 1


def test_the_examples_of_create_detector_run_and_say_eval():
    """The docstring's by doctest, the page's as it stands; both predict the same twice, which training mode does not."""
    tests = doctest.DocTestFinder(recurse=False).find(create_detector, globs={})
    result = doctest.DocTestRunner().run(tests[0])
    assert result.attempted >= 8
    assert result.failed == 0
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    code = page.split("```python\n", 1)[1].split("```", 1)[0]
    for text in (code, tests[0].docstring):
        assert ").eval()" in text
    names = {}
    exec(compile(code, "docs/models.md", "exec"), names)
    assert names["logits"].shape == (3, 50)
    with torch.no_grad():
        again, _ = names["detector"](names["frames"], names["boxes"], names["clip_index"])
    assert torch.equal(again, names["logits"])
