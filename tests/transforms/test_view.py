"""Views against torchvision's v2 transforms: pixels within one level, boxes exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from microg_da.errors import InputError
from microg_da.transforms.view import RandomViews, View, WholeViews


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_torchvision(view: View, images, boxes):
    height, width, _ = images[0].shape
    top, left, h, w, size = view._region(height, width)
    video = tv_tensors.Video(torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2))
    pixels = torch.from_numpy(boxes) * torch.tensor([width, height, width, height])
    if not hasattr(tv_tensors._bounding_boxes, "CLAMPING_MODE_TYPE"):
        pytest.skip("this torchvision clamps boxes whether or not it is asked to")
    people = tv_tensors.BoundingBoxes(pixels, format="XYXY", canvas_size=(height, width), clamping_mode=None)
    video = F.resized_crop(video, top, left, h, w, list(size), antialias=False)
    people = F.resized_crop(people, top, left, h, w, list(size))
    return video.permute(1, 0, 2, 3), F.clamp_bounding_boxes(people, clamping_mode="hard")


@pytest.mark.parametrize(
    "view",
    [View(256), View(200), View(300, 224, (0.2, 0.9)), View(256, 224, (1, 0)), View(48)],
    ids=str,
)
def test_frames_and_boxes_are_where_torchvision_puts_them(view: View):
    images = [picture(120, 160, seed) for seed in range(3)]
    boxes = np.array([[0.1, 0.2, 0.8, 0.9], [0.4, 0.4, 0.6, 0.6], [0, 0, 1, 1]], np.float32)
    frames, moved, kept = view(images, np.arange(3), boxes)
    expected_frames, expected_boxes = by_torchvision(view, images, boxes)
    assert frames.dtype == torch.uint8
    assert frames.shape == expected_frames.shape
    assert (frames.int() - expected_frames.int()).abs().max() <= 1
    torch.testing.assert_close(moved, expected_boxes[kept].as_subclass(torch.Tensor).float(), atol=1e-3, rtol=0)


def test_a_marked_pixel_stays_in_its_box():
    image = np.zeros((120, 160, 3), np.uint8)
    image[60:72, 80:96] = (10, 120, 250)  # blue, green, red
    box = np.array([[80 / 160, 60 / 120, 96 / 160, 72 / 120]], np.float32)
    rng = np.random.default_rng(0)
    for _ in range(20):
        frames, moved, _ = RandomViews(96, 100, 200).draw(rng)([image], np.array([0]), box)
        if len(moved):
            x1, y1, x2, y2 = moved[0].round().int().tolist()
            inside = frames[:, 0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].float()
            outside = frames[0].float().sum() - frames[0, 0, max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1].sum()
            assert outside == 0
            if inside.numel():
                assert inside.mean(dim=(1, 2)).tolist() == pytest.approx([250, 120, 10], abs=2)


def test_repeated_places_repeat_frames():
    frames, _, _ = View(40)([picture(40, 40, 1), picture(40, 40, 2)], np.array([0, 0, 1]), np.zeros((0, 4), np.float32))
    assert frames.shape == (3, 3, 40, 40)
    assert torch.equal(frames[:, 0], frames[:, 1])
    assert not torch.equal(frames[:, 1], frames[:, 2])


def test_people_outside_a_crop_are_dropped_and_others_clipped():
    boxes = np.array([[0.0, 0.0, 0.1, 0.1], [0.6, 0.2, 1.0, 1.0], [0.7, 0.7, 0.9, 0.9]], np.float32)
    _, moved, kept = View(100, 50, (1.0, 1.0))([picture(100, 100)], np.array([0]), boxes)
    assert kept.tolist() == [False, True, True]
    torch.testing.assert_close(moved, torch.tensor([[10.0, 0.0, 50.0, 50.0], [20.0, 20.0, 40.0, 40.0]]))


def test_the_whole_frame_drops_nobody():
    _, moved, kept = View(64)([picture(48, 64)], np.array([0]), np.array([[0.5, 0.5, 0.5, 0.5]], np.float32))
    assert kept.tolist() == [True]
    assert len(moved) == 1


@given(st.integers(0, 2**31), st.integers(40, 400), st.integers(40, 400))
@settings(max_examples=60, deadline=None)
def test_random_views_stay_in_the_frame_and_in_range(seed: int, height: int, width: int):
    views = RandomViews(224)
    assert views.sides == (256, 320)
    view = views.draw(np.random.default_rng(seed))
    assert 256 <= view.short_side <= 320
    top, left, h, w, size = view._region(height, width)
    assert top >= 0 and left >= 0 and top + h <= height and left + w <= width  # noqa: PT018
    assert h == w
    assert size == (224, 224)
    # The crop covers what it would of a frame resized first, to half a stored pixel.
    assert h == pytest.approx(224 * min(height, width) / view.short_side, abs=0.51)


def test_inverse_of_the_short_side_is_uniform():
    views, rng = RandomViews(224), np.random.default_rng(0)
    inverses = [1 / views.draw(rng).short_side for _ in range(4000)]
    assert np.mean(inverses) == pytest.approx((1 / 256 + 1 / 320) / 2, rel=5e-3)


@pytest.mark.parametrize(("crop", "test", "largest"), [(224, 256, 320), (160, 182, 228), (312, 356, 445)])
def test_default_sides_are_the_published_ones(crop: int, test: int, largest: int):
    assert RandomViews(crop).sides == (test, largest)


def test_a_zoom_is_relative_to_the_size_of_the_test_unless_sides_are_given():
    assert RandomViews(224, scale=(0.9, 1.15)).sides == (230, 294)
    assert RandomViews(224, min_side=256, max_side=320, scale=(0.9, 1.15)).sides == (256, 320)


def test_impossible_views():
    with pytest.raises(InputError, match="min_side=100"):
        RandomViews(224, min_side=100)
    with pytest.raises(InputError, match=r"augment\.scale=\[0\.8, 1\.2\]"):
        RandomViews(224, scale=(0.8, 1.2))


def test_testing_draws_nothing():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert WholeViews(256).draw(rng) == View(256)
    assert rng.bit_generator.state == state
