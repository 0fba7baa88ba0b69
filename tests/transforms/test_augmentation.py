"""Augmentation of whole batches: frames and boxes move together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microg_da.config import AugmentConfig
from microg_da.data.batches import collate_clips
from microg_da.transforms.affine import _resample_by_opencv, _resample_by_torch, linear_map, move_boxes, resample
from microg_da.transforms.augmentation import augment_batch, colour_map
from microg_da.types import Clip, ClipKey

SIZE = 48


def batch_of(boxes_per_clip, size=SIZE):
    clips = []
    for number, boxes in enumerate(boxes_per_clip):
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        frames = torch.randint(
            0, 256, (3, 2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(number)
        )
        clips.append(
            Clip(frames, boxes, boxes / size, ClipKey(f"v_{number}", 1)).with_labels(torch.zeros(len(boxes), 5))
        )
    return collate_clips(clips)


def turn(batch, degrees=0.0, zoom=1.0, flip=False, by=resample):
    count = len(batch)
    matrix = linear_map(
        torch.full((count,), zoom), torch.full((count,), flip), torch.full((count,), math.radians(degrees))
    )
    same = colour_map(torch.ones(count), torch.ones(count), torch.ones(count))
    boxes = move_boxes(batch.boxes, batch.clip_index, matrix, batch.frames.shape[-2:])
    return by(batch.frames, matrix, same).float(), boxes


BOTH = pytest.mark.parametrize("by", [_resample_by_opencv, _resample_by_torch])
"""On the CPU and on an accelerator; torch's way runs on the CPU too."""


@BOTH
@pytest.mark.parametrize("degrees", [0, 360, -360])
def test_a_full_turn_is_the_identity(degrees, by):
    batch = batch_of([[[4, 6, 20, 30]], [[1, 2, 9, 40], [20, 20, 30, 47]]])
    frames, boxes = turn(batch, degrees, by=by)
    assert torch.allclose(frames, batch.frames.float(), atol=0.02)
    assert torch.allclose(boxes, batch.boxes, atol=1e-3)


@BOTH
@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1), (-90, 1)])
def test_right_angles_equal_an_exact_rotation_of_the_array(degrees, turns, by):
    batch = batch_of([[[4, 6, 20, 30]]])
    frames, boxes = turn(batch, degrees, by=by)
    expected = torch.rot90(batch.frames.float(), turns, dims=(-2, -1))
    assert torch.allclose(frames, expected, atol=0.02)
    x1, y1, x2, y2 = (4, 6, 20, 30)
    corners = {
        3: (SIZE - y2, x1, SIZE - y1, x2),
        2: (SIZE - x2, SIZE - y2, SIZE - x1, SIZE - y1),
        1: (y1, SIZE - x2, y2, SIZE - x1),
    }
    assert torch.allclose(boxes, torch.tensor([corners[turns]], dtype=torch.float32), atol=1e-3)


def smooth(batch):
    """Frames without fine grain, where rounding of coordinates matters little."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, SIZE), torch.linspace(0, 5, SIZE), indexing="ij")
    planes = [100 + 90 * (rows + k).sin() * (columns * (1 + k / 3)).cos() for k in range(6)]
    batch.frames = torch.stack(planes).view(1, 3, 2, SIZE, SIZE).repeat(len(batch), 1, 1, 1, 1).to(torch.uint8)
    return batch


@given(st.floats(-180, 180), st.floats(0.6, 1.6), st.booleans(), st.floats(0.6, 1.4), st.floats(0.6, 1.4))
@settings(max_examples=25, deadline=None)
def test_both_ways_of_resampling_agree(degrees, zoom, flip, contrast, saturation):
    batch = smooth(batch_of([[]]))
    matrix = linear_map(torch.tensor([zoom]), torch.tensor([flip]), torch.tensor([math.radians(degrees)]))
    colour = colour_map(torch.tensor([1.1]), torch.tensor([contrast]), torch.tensor([saturation]))
    one, two = (by(batch.frames, matrix, colour).float() for by in (_resample_by_opencv, _resample_by_torch))
    assert (one - two).abs().max() <= 3


def test_colour_against_arithmetic_on_one_pixel():
    pixel = torch.tensor([200.0, 100.0, 50.0])
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    expected = 1.2 * (0.45 * 255 + 0.9 * ((grey + 0.5 * (pixel - grey)) - 0.45 * 255))
    mix = colour_map(torch.tensor([1.2]), torch.tensor([0.9]), torch.tensor([0.5]))[0]
    assert torch.allclose(mix[:, :3] @ pixel + mix[:, 3], expected, atol=1e-3)


def test_a_flip_mirrors_frames_and_boxes():
    batch = batch_of([[[4, 6, 20, 30]]])
    frames, boxes = turn(batch, flip=True)
    assert torch.allclose(frames, batch.frames.float().flip(-1), atol=0.02)
    assert torch.allclose(boxes, torch.tensor([[SIZE - 20.0, 6, SIZE - 4, 30]]), atol=1e-4)


@given(st.floats(-180, 180))
@settings(max_examples=25, deadline=None)
def test_turning_and_mirroring_equals_mirroring_and_turning_back(degrees):
    batch = smooth(batch_of([[[10, 8, 24, 40]]]))
    frames, boxes = turn(batch, degrees, flip=True)
    mirrored = batch_of([[[10, 8, 24, 40]]])
    mirrored.frames = batch.frames.flip(-1)
    mirrored.boxes = torch.tensor([[SIZE - 24.0, 8, SIZE - 10, 40]])
    other_frames, other_boxes = turn(mirrored, degrees)
    assert (frames - other_frames).abs().max() <= 3
    assert torch.allclose(boxes, other_boxes, atol=1e-3)


@given(st.floats(-180, 180), st.floats(0.7, 1.4))
@settings(max_examples=25, deadline=None)
def test_the_box_is_the_tightest_around_the_turned_ellipse(degrees, zoom):
    box = torch.tensor([18.0, 14, 30, 34])
    batch = batch_of([[box.tolist()]])
    _, boxes = turn(batch, degrees, zoom)
    # Independent: turn ten thousand points of the ellipse's rim one by one and take their extremes.
    angle = torch.linspace(0, 2 * math.pi, 10_001)
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    rim = torch.stack([middle[0] + half[0] * angle.cos(), middle[1] + half[1] * angle.sin()], 1) - SIZE / 2
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = zoom * rim @ torch.tensor([[c, s], [-s, c]]) + SIZE / 2
    expected = torch.cat([moved.min(0).values, moved.max(0).values]).clamp(0, SIZE)
    assert torch.allclose(boxes[0], expected, atol=1e-2)


def test_a_bright_patch_stays_inside_its_box():
    batch = batch_of([[[12, 16, 20, 36]]])
    batch.frames.zero_()
    batch.frames[..., 16:36, 12:20] = 255
    for degrees in (30, 77, 200):
        frames, boxes = turn(batch, degrees)
        rows, columns = torch.where(frames[0, 0, 0] > 200)
        centre = torch.stack([columns.float().mean(), rows.float().mean()]) + 0.5
        assert torch.allclose(centre, (boxes[0, :2] + boxes[0, 2:]) / 2, atol=0.5)


def test_no_augmentation_is_the_identity_to_the_bit():
    batch = batch_of([[[4, 6, 20, 30]], []])
    out = augment_batch(batch, AugmentConfig(flip=0, scale=[1, 1], colour=0, rotation=0))
    assert torch.equal(out.frames, batch.frames)
    assert torch.allclose(out.boxes, batch.boxes, atol=1e-4)
    assert out.labels is batch.labels


def test_augmentation_is_a_function_of_its_generator():
    batch = batch_of([[[4, 6, 20, 30]], [], [[0, 0, 48, 48]]])
    config = AugmentConfig(rotation=180)
    one, two, three = (augment_batch(batch, config, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.frames, two.frames)
    assert torch.equal(one.boxes, two.boxes)
    assert not torch.equal(one.frames, three.frames)
    assert one.frames.dtype == torch.uint8
    assert (one.boxes >= 0).all()
    assert (one.boxes <= SIZE).all()
    assert torch.equal(one.table_boxes, batch.table_boxes)


def test_a_batch_without_people():
    out = augment_batch(batch_of([[], []]), AugmentConfig(rotation=90))
    assert out.boxes.shape == (0, 4)
