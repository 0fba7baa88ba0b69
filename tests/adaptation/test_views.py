"""Views of clips: what is in a part of a batch, who is still seen, and people pasted pixel by pixel."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.views import first_clips, in_view, paste_people
from microg_da.data.batches import collate_clips
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey, LabelledClipBatch, PersonKey

HEIGHT, WIDTH = 24, 32


def clips(people, value=None, seed=0):
    """Clips with the given boxes; random frames, or all pixels of one value."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index, boxes in enumerate(people):
        frames = torch.randint(0, 256, (3, 2, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
        frames = frames if value is None else torch.full_like(frames, value)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        scale = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        made.append(Clip(frames, boxes, boxes / scale, ClipKey(f"v_{index}", 1)).with_labels(torch.ones(len(boxes), 2)))
    return collate_clips(made)


A, B, C = [4.0, 4, 12, 20], [20.0, 4, 28, 20], [2.0, 2, 30, 8]


def test_the_first_clips_with_their_people_and_without_labels():
    batch = clips([[A], [], [B, C], [A]])
    part = first_clips(batch, 3)
    assert len(part) == 3
    assert part.clip_index.tolist() == [0, 2, 2]
    assert part.boxes.tolist() == [A, B, C]
    assert [(key.keyframe, key.place) for key in part.people] == [
        (batch.keys[0], 0), (batch.keys[2], 0), (batch.keys[2], 1),
    ]  # fmt: skip
    assert torch.equal(part.frames, batch.frames[:3])
    assert not isinstance(part, LabelledClipBatch)
    assert first_clips(batch, 9).num_boxes == 4
    assert first_clips(batch, 0).frames.shape == (0, 3, 2, HEIGHT, WIDTH)


def test_people_whom_a_roll_takes_out_of_the_picture_are_not_seen():
    centre, corner, edge = [12.0, 8, 20, 16], [0.0, 10, 3, 14], [1.0, 8, 5, 16]
    batch = clips([[centre, corner, edge]])
    # By a quarter turn the corner goes above the picture; of the other a quarter is left.
    assert in_view(batch.boxes, roll_batch(batch, 90).boxes).tolist() == [1, 0, 0]
    assert in_view(batch.boxes, roll_batch(batch, 180).boxes).tolist() == [1, 1, 1]
    assert in_view(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0]


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_frames_are_blended_pixel_by_pixel(margin):
    foreground, background = clips([[A], [B, C]], seed=1), clips([[], []], seed=2)
    mixed = paste_people(foreground, background, margin, 0.5).batch.frames
    for clip, boxes in enumerate([[A], [B, C]]):
        for row in range(0, HEIGHT, 3):
            for column in range(WIDTH):
                weight = 0.0
                for x1, y1, x2, y2 in boxes:
                    sides = []
                    for low, high, place in ((x1, x2, column + 0.5), (y1, y2, row + 0.5)):
                        beyond = max(low - place, place - high, 0.0)
                        border = max(margin * (high - low), 1e-3)
                        sides.append(max(1 - beyond / border, 0.0))
                    weight = max(weight, sides[0] * sides[1])
                over, under = (
                    frames[clip, :, :, row, column].double() for frames in (foreground.frames, background.frames)
                )
                expected = weight * over + (1 - weight) * under
                assert np.allclose(mixed[clip, :, :, row, column], expected, atol=0.51)


def test_whoever_is_covered_too_much_loses_their_place_and_all_others_keep_theirs():
    half = [8.0, 4, 16, 20]  # half of it lies under A
    background, foreground = clips([[A, B, half], [B]]), clips([[A], [C]])
    foreground.keys = (ClipKey("w_0", 3), ClipKey("w_1", 3))
    foreground.people = (PersonKey(ClipKey("w_0", 3), 4), PersonKey(ClipKey("w_1", 3), 0))
    batch, origin = paste_people(foreground, background, 0.0, 0.55)
    # Background people are 0 to 3, those of the foreground 4 and 5.
    assert origin.tolist() == [1, 2, 4, 3, 5]
    assert [(key.keyframe.video_id, key.place) for key in batch.people] == [
        ("v_0", 1), ("v_0", 2), ("w_0", 4), ("v_1", 0), ("w_1", 0),
    ]  # fmt: skip
    assert batch.clip_index.tolist() == [0, 0, 0, 1, 1]
    assert batch.boxes.tolist() == [B, half, A, B, C]
    assert batch.table_boxes[3].tolist() == background.table_boxes[3].tolist()
    assert paste_people(foreground, background, 0.0, 0.45).origin.tolist() == [1, 4, 3, 5]


@pytest.mark.parametrize(("front", "back"), [(3, 2), (2, 3), (0, 2), (2, 0)])
def test_the_longer_batch_is_cut(front, back):
    foreground, background = (
        clips([[A]] * front) if front else None,
        clips([[B], [B]][:back] + [[B]] * (back - 2)) if back else None,
    )
    foreground = foreground or first_clips(clips([[A]]), 0)
    background = background or first_clips(clips([[B]]), 0)
    batch, people = paste_people(foreground, background, 0.1, 0.5)
    count = min(front, back)
    assert len(batch) == len(batch.frames) == count
    assert people.tolist() == [number for clip in range(count) for number in (clip, back + clip)]


def test_frames_that_are_normalised_already_are_mixed_too():
    foreground, background = clips([[A]], 200), clips([[B]], 100)
    for batch in (foreground, background):
        batch.frames = batch.frames.float() / 50
    frames = paste_people(foreground, background, 0.0, 0.5).batch.frames
    assert frames[0, 0, 0, 10, 8] == 4
    assert frames[0, 0, 0, 10, 24] == 2
