"""People of one clip in front of another."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from microg_da.adaptation.scenes import AXES, RIM, change_scenes, ellipses
from microg_da.adaptation.views import first_clips
from microg_da.data.batches import collate_clips
from microg_da.types import Clip, ClipKey

HEIGHT, WIDTH, T = 40, 48, 3


def clips(people, seed):
    """Clips of random pixels with the given boxes."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index, boxes in enumerate(people):
        frames = torch.rand(3, T, HEIGHT, WIDTH, generator=generator)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        clip = Clip(frames, boxes, boxes / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]), ClipKey(f"{seed}_{index}", 1))
        made.append(clip.with_labels(torch.ones(len(boxes), 2)))
    return collate_clips(made)


PEOPLE = [[[4.0, 6, 16, 34]], [[10.0, 10, 20, 30], [26.0, 4, 44, 36]], []]


def by_hand(boxes):
    """The opacity of each pixel, one at a time."""
    plane = np.zeros((HEIGHT, WIDTH))
    for x1, y1, x2, y2 in boxes:
        for row in range(HEIGHT):
            for column in range(WIDTH):
                across = (column + 0.5 - (x1 + x2) / 2) / (AXES * (x2 - x1) / 2)
                down = (row + 0.5 - (y1 + y2) / 2) / (AXES * (y2 - y1) / 2)
                distance = (across**2 + down**2) ** 0.5
                plane[row, column] = max(plane[row, column], min(max((1 - distance) / RIM, 0), 1))
    return plane


def test_ellipses_are_those_of_a_loop_over_pixels():
    planes = ellipses(clips(PEOPLE, 0))
    for plane, boxes in zip(planes, PEOPLE, strict=True):
        np.testing.assert_allclose(plane, by_hand(boxes), atol=1e-5)


def test_people_stay_and_the_place_is_the_other_clips():
    batch, scenes = clips(PEOPLE, 0), clips([[]] * 3, 1)
    changed = change_scenes(batch, scenes, torch.tensor([True, False, True]))
    opacity = torch.from_numpy(by_hand(PEOPLE[0])).float()
    assert torch.allclose(changed.frames[0], torch.lerp(scenes.frames[0], batch.frames[0], opacity), atol=1e-5)
    assert torch.equal(changed.frames[1:], batch.frames[1:])  # not chosen; nobody there
    assert torch.equal(changed.boxes, batch.boxes)
    assert torch.equal(changed.labels, batch.labels)
    assert changed.people == batch.people


def test_the_middle_of_a_person_is_their_own_and_corners_are_the_scene():
    batch, scenes = clips(PEOPLE[:1], 0), clips([[]], 1)
    changed = change_scenes(batch, scenes, torch.ones(1, dtype=torch.bool)).frames[0]
    assert torch.equal(changed[..., 20, 10], batch.frames[0, ..., 20, 10])
    for row, column in ((0, 0), (0, WIDTH - 1), (HEIGHT - 1, 0), (HEIGHT - 1, WIDTH - 1)):
        assert torch.equal(changed[..., row, column], scenes.frames[0, ..., row, column])


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_fewer_or_more_scenes_than_clips(count):
    batch, scenes = clips(PEOPLE, 0), first_clips(clips([[]] * 5, 1), count)
    changed = change_scenes(batch, scenes, torch.ones(3, dtype=torch.bool))
    if not count:
        assert torch.equal(changed.frames, batch.frames)
        return
    for clip in (0, 1):
        assert torch.equal(changed.frames[clip, ..., 0, 0], scenes.frames[clip % count, ..., 0, 0])


def test_a_box_without_area_and_one_outside_the_picture():
    batch = clips([[[5.0, 5, 5, 5]], [[-30.0, -30, -20, -20]]], 0)
    scenes = clips([[]] * 2, 1)
    changed = change_scenes(batch, scenes, torch.ones(2, dtype=torch.bool))
    assert torch.isfinite(changed.frames).all()
    assert torch.equal(changed.frames[1], batch.frames[1])  # nobody is seen, so nothing changes


@pytest.mark.parametrize("kind", [torch.uint8, torch.bfloat16])
def test_frames_keep_their_type(kind):
    batch, scenes = clips(PEOPLE, 0), clips([[]] * 3, 1)
    everyone = torch.ones(3, dtype=torch.bool)
    exact = change_scenes(batch, scenes, everyone).frames
    low, below = (replace(clip, frames=(255 * clip.frames).to(kind)) for clip in (batch, scenes))
    changed = change_scenes(low, below, everyone).frames
    assert changed.dtype == kind
    assert float((changed.float() - 255 * exact).abs().max()) < 3
