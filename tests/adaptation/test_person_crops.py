"""Square crops of people: pixels and boxes agree with OpenCV, with rolls of whole clips, and with each other."""

import cv2
import numpy as np
import pytest
import torch
from stick_figures import clips

from microg_da.adaptation.person_crops import person_crops
from microg_da.data.batches import collate_clips
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey

SIZE = 64


def scene(boxes, height=90, width=120, as_float=False):
    """A smooth clip of two frames, with people in some boxes."""
    rows, columns = torch.meshgrid(torch.linspace(0, 4, height), torch.linspace(0, 6, width), indexing="ij")
    planes = [128 + 100 * (rows + k).sin() * (columns * (1 + k / 4)).cos() for k in range(6)]
    frames = torch.stack(planes).view(3, 2, height, width)
    frames = frames / 100 if as_float else frames.to(torch.uint8)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Clip(frames, boxes, boxes / torch.tensor([width, height] * 2), ClipKey(f"v{len(boxes)}", 1))


def crops(batch, turns=0.0, side=1.5, size=SIZE):
    count = batch.num_boxes
    return person_crops(batch, torch.full((count,), turns), torch.full((count,), side), size)


@pytest.mark.parametrize("turns", [0.0, 35.0, 90.0, 250.0])
def test_pixels_are_those_of_opencv(turns):
    batch = collate_clips([scene([[40, 20, 80, 70]])])
    crop = crops(batch, turns)
    radians, zoom = np.deg2rad(turns), SIZE / (1.5 * 50)
    linear = zoom * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    offset = SIZE / 2 - 0.5 - linear @ (np.array([60, 45]) - 0.5)
    for time in range(2):
        frame = batch.frames[0, :, time].permute(1, 2, 0).numpy()
        expected = cv2.warpAffine(
            frame, np.hstack([linear, offset[:, None]]), (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT
        )
        found = crop.frames[0, :, time].permute(1, 2, 0).numpy()
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 3


def test_a_turned_crop_is_the_crop_of_a_turned_clip():
    batch = collate_clips([scene([[45, 45, 75, 75]], 120, 120)])
    once, twice = crops(batch, 70.0, 1.2), crops(roll_batch(batch, 70.0), 0.0, 1.2)
    assert (once.frames.int() - twice.frames.int()).abs().max() <= 6
    assert torch.allclose(once.boxes, twice.boxes, atol=0.01)


def test_the_longer_side_of_the_box_is_the_given_part_of_the_crop():
    batch = collate_clips([scene([[10, 20, 30, 60], [50, 30, 110, 50]])])
    boxes = crops(batch, 0.0, 2.0).boxes
    assert torch.allclose((boxes[:, 2:] - boxes[:, :2]).amax(dim=1), torch.tensor(SIZE / 2.0))
    assert torch.allclose((boxes[:, 2:] + boxes[:, :2]) / 2, torch.tensor(SIZE / 2.0))
    narrow = crops(batch, 90.0, 2.0).boxes
    assert torch.allclose(narrow[0, 2:] - narrow[0, :2], (boxes[0, 2:] - boxes[0, :2]).flip(0))


def test_each_person_becomes_a_clip_with_the_same_key_and_labels():
    several = [scene([[10, 20, 30, 60], [50, 30, 110, 50]]), scene([]), scene([[5, 5, 20, 80]] * 3)]
    labelled = [clip.with_labels(torch.arange(4.0 * len(clip.boxes)).view(-1, 4)) for clip in several]
    batch = collate_clips(labelled)
    crop = crops(batch)
    assert crop.frames.shape == (5, 3, 2, SIZE, SIZE)
    assert crop.frames.dtype == torch.uint8
    assert crop.clip_index.tolist() == [0, 1, 2, 3, 4]
    assert crop.keys == tuple(batch.keys[clip] for clip in batch.clip_index.tolist())
    assert crop.people == batch.people
    assert torch.equal(crop.labels, batch.labels)
    assert torch.equal(crop.table_boxes, batch.table_boxes)
    alone = crops(collate_clips(labelled[:1]))
    assert torch.equal(crop.frames[:2], alone.frames)


def test_float_frames_stay_float():
    crop = crops(collate_clips([scene([[40, 20, 80, 70]], as_float=True)]))
    assert crop.frames.dtype == torch.float32
    whole = crops(collate_clips([scene([[40, 20, 80, 70]])]))
    assert (crop.frames * 100 - whole.frames.float()).abs().max() < 2


def test_boxes_without_area_and_boxes_at_the_border_give_finite_crops():
    batch = collate_clips([scene([[50, 40, 50, 40], [0, 0, 120, 90], [118, 0, 120, 90]])])
    crop = crops(batch, 45.0)
    assert torch.isfinite(crop.boxes).all()
    assert crop.boxes.min() >= 0
    assert crop.boxes.max() <= SIZE


def test_clips_without_people_are_resized():
    batch = collate_clips([scene([]), scene([])])
    crop = crops(batch)
    assert crop.frames.shape == (2, 3, 2, SIZE, SIZE)
    assert crop.num_boxes == 0
    assert crop.keys == batch.keys


def test_large_frames_are_averaged_before_they_are_reduced():
    clip = scene([[0, 0, 512, 512]], 512, 512)
    clip.frames = torch.randint(0, 256, clip.frames.shape, dtype=torch.uint8, generator=torch.manual_seed(0))
    crop = crops(collate_clips([clip]), 0.0, 1.0)
    assert crop.frames.float().std() < 0.4 * clip.frames.float().std()


def test_figures_are_upright_after_their_turn():
    batch, upright = clips([120.0], seed=3), clips([0.0], seed=3)
    turned, straight = crops(batch, -120.0, 1.2), crops(upright, 0.0, 1.2)
    same = torch.corrcoef(torch.stack([turned.frames.flatten().float(), straight.frames.flatten().float()]))[0, 1]
    other = crops(batch, 0.0, 1.2).frames.flatten().float()
    assert same > torch.corrcoef(torch.stack([other, straight.frames.flatten().float()]))[0, 1]
