"""A detector that looks at a clip from several angles says the same whichever of them it is given."""

import pytest
import torch

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.roll_pooling import RollPooledDetector
from microg_da.transforms.rotation import roll_frames


def detector(roll_pooling=None, name="r2plus1d_tiny", **options):
    torch.manual_seed(0)
    built = create_detector(name, num_classes=5, roll_pooling=roll_pooling, **options).eval()
    torch.nn.init.normal_(built.head.projection.weight)
    return built


def clips(height=64, width=64, length=4):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, length, 8, 8, generator=generator)
    frames = torch.nn.functional.interpolate(coarse.flatten(1, 2), (height, width), mode="bilinear")
    frames = (255 * frames.view(2, 3, length, height, width)).to(torch.uint8)
    return frames, torch.tensor([[10.0, 12, 30, 50], [0, 0, 64, 32], [40, 8, 60, 24]]), torch.tensor([0, 1, 1])


def turned(frames, boxes):
    """A quarter anticlockwise, by numpy's convention and by hand."""
    x1, y1, x2, y2 = boxes.unbind(1)
    width = frames.shape[-1]
    return torch.rot90(frames, 1, dims=(-2, -1)), torch.stack([y1, width - x2, y2, width - x1], 1)


def change(model, frames, boxes, index):
    """How far features and logits move when the clip is turned by one, two and three quarters."""
    upright, largest = model(frames, boxes, index), 0.0
    for _ in range(3):
        frames, boxes = turned(frames, boxes)
        other = model(frames, boxes, index)
        moved = [(one - two).abs().max() for one, two in zip(other, upright, strict=True)]
        largest = max(largest, *(float(value) for value in moved))
    return largest


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (50, 50)])
def test_quarter_turns_change_nothing(size):
    assert change(detector(), *clips(*size)) > 0.1
    assert change(detector("c4"), *clips(*size)) < 1e-5


@torch.no_grad()
def test_with_45_degrees_quarter_turns_change_next_to_nothing():
    # OpenCV rounds where it samples to 1/32 of a pixel, and two ways round to different sides.
    assert change(detector("c8"), *clips()) < 0.02 * change(detector(), *clips())


@torch.no_grad()
def test_features_are_the_mean_over_the_rolls():
    frames, boxes, index = clips()
    model, plain = detector("c4"), detector()
    features = []
    for _ in range(4):
        features.append(plain(frames, boxes, index).features)
        frames, boxes = turned(frames, boxes)
    prediction = model(frames, boxes, index)
    torch.testing.assert_close(prediction.features, torch.stack(features).mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prediction.logits, plain.head.projection(prediction.features))


@torch.no_grad()
def test_people_beyond_the_border_at_45_degrees_count_as_much_as_is_seen_of_them():
    frames, _, _ = clips()
    corner = torch.tensor([[0.0, 0, 4, 4]])
    index = torch.tensor([0])
    c4, c8 = detector("c4"), detector("c8")
    torch.testing.assert_close(c8(frames, corner, index), c4(frames, corner, index))
    middle = torch.tensor([[20.0, 20, 44, 44]])
    diagonal = roll_frames(frames, torch.tensor([45.0, 45]))
    expected = (c4(frames, middle, index).features + c4(diagonal, middle, index).features) / 2
    torch.testing.assert_close(c8(frames, middle, index).features, expected, atol=1e-4, rtol=1e-4)


def test_the_state_is_that_of_the_plain_detector(tmp_path):
    plain, pooled = detector(), detector("c8")
    assert list(plain.state_dict()) == list(pooled.state_dict())
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "weights.pt")
    torch.manual_seed(3)
    loaded = create_detector("r2plus1d_tiny", 5, tmp_path / "weights.pt", roll_pooling="c4")
    assert torch.equal(loaded.head.projection.weight, plain.head.projection.weight)
    assert isinstance(loaded, RollPooledDetector)


@pytest.mark.parametrize("group", ["c4", "c8"])
def test_nobody_in_the_clips(group):
    frames, _, _ = clips()
    prediction = detector(group)(frames, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert prediction.logits.shape == (0, 5)
    assert prediction.features.shape == (0, 128)


@pytest.mark.parametrize("group", ["c4", "c8"])
def test_it_trains(group):
    frames, boxes, index = clips()
    model = detector(group, dropout=0.5).train()
    model(frames, boxes, index).logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2d_r50_8x8", "slowfast_r50_4x16", "mvit_v1_b_16x4", "mvit_v2_s_16x4", "x3d_s_13x6"])
def test_every_family_of_the_zoo(name):
    frames, boxes, index = clips(64, 64, length=16)
    model = detector("c4", name)
    upright, other = model(frames, boxes, index), model(*turned(frames, boxes), index)
    torch.testing.assert_close(other.features, upright.features, atol=1e-3, rtol=1e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"model\.roll_pooling.*'c6'.*c4, c8"):
        detector("c6")
    with pytest.raises(InputError, match=r"model\.roll_pooling=c4"):
        detector("c4").local_predictions(*clips(), 2)
