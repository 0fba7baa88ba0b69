"""What a detector refuses to read, and that looking costs it nothing it must not."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone import normalise
from microg_da.models.inputs import check_inputs
from microg_da.transforms.affine import clip_boxes

FRAMES = torch.randint(0, 256, (2, 3, 4, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[4.0, 4.0, 30.0, 40.0], [10.0, 0.0, 64.0, 48.0], [1.0, 2.0, 20.0, 30.0]])
INDEX = torch.tensor([0, 1, 1])
GOOD = {"frames": FRAMES, "boxes": BOXES, "clip_index": INDEX}


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=5).eval()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clip_index": torch.tensor([0, 1, 2])}, r"clip_index: .*\b0 to 1\b.*\b0 to 2\b"),
        ({"clip_index": torch.tensor([0, -1, 1])}, r"clip_index: .* -1 to 1\b"),
        ({"clip_index": torch.tensor([0, 1, 10**9])}, r"clip_index: .* 0 to 1"),
        ({"clip_index": INDEX[:2]}, r"clip_index: .* 3 boxes"),
        ({"clip_index": INDEX.float()}, r"clip_index: .*int64.*torch\.float32"),
        ({"boxes": BOXES / 64}, r"boxes: .*pixels.*\b0 to 1\b"),
        ({"boxes": BOXES[:, :3]}, r"boxes: .*\(K, 4\)"),
        ({"boxes": BOXES.masked_fill(BOXES == 30, torch.nan)}, r"boxes: .*finite"),
        ({"frames": FRAMES.float()}, r"frames: .*\b0 to 255\b"),
        ({"frames": FRAMES.transpose(1, 2)}, r"frames: .*\(B, 3, T, H, W\).*\(2, 4, 3, 48, 64\)"),
        ({"frames": FRAMES[0]}, r"frames: .*\(B, 3, T, H, W\)"),
    ],
)
@pytest.mark.parametrize("pooling", [None, "c4"])
def test_what_would_be_misread_is_refused(changed, message, pooling):
    detector = create_detector("r2plus1d_tiny", num_classes=5, roll_pooling=pooling)
    with pytest.raises(InputError, match=message):
        detector(**{**GOOD, **changed})
    if pooling is None:
        with pytest.raises(InputError, match=message):
            detector.local_predictions(**{**GOOD, **changed}, slices=2)


def test_what_is_right_passes_and_gives_the_same_either_way(detector):
    expected = detector(**GOOD).logits
    torch.testing.assert_close(detector(normalise(FRAMES), BOXES, INDEX.int()).logits, expected)


def test_people_outside_the_picture_are_no_mistake():
    """A roll can leave of a person nothing, or a corner of a pixel in the picture's own corner."""
    moved = torch.tensor([[-30.0, -9.0, -3.0, -1.0], [-30.0, -9.0, 0.5, 0.7], [-9.0, 5.0, 0.4, 40.0]])
    boxes = clip_boxes(moved, (48, 64))
    for count in (1, 2, 3):
        check_inputs(FRAMES, boxes[:count], INDEX[:count])


def test_nobody_and_nothing(detector):
    nobody = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert detector(FRAMES, *nobody).logits.shape == (0, 5)
    with pytest.raises(InputError, match="frames: floating"):
        detector(FRAMES.float(), *nobody)


def test_exported_and_compiled_graphs_hold_no_check(detector):
    with torch.no_grad():
        expected = detector(**GOOD).logits
        exported = torch.export.export(detector, (FRAMES, BOXES, INDEX))
        torch.testing.assert_close(exported.module()(FRAMES, BOXES, INDEX).logits, expected)
        names = {str(node.target) for node in exported.graph.nodes}
        assert not {name for name in names if "assert_async" in name or "aminmax" in name or "isfinite" in name}
        compiled = torch.compile(detector, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(FRAMES, BOXES, INDEX).logits, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_not_waited_for():
    inputs = normalise(FRAMES).cuda(), BOXES.cuda(), INDEX.cuda()
    check_inputs(*inputs)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        check_inputs(*inputs)
    names = {event.key for event in profiled.key_averages()}
    assert "aten::_assert_async" in names
    assert not {name for name in names if "Memcpy DtoH" in name or name == "aten::_local_scalar_dense"}
