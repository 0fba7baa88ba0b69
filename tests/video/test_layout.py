"""Panels beside people: inside the frame, off each other, off faces where there is room."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microg_da.video.drawing import Label, draw_people
from microg_da.video.layout import Layout

SIZE = (400, 600)


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 0.8)] * 2, *[st.floats(0.05, 1)] * 2), min_size=1, max_size=8))
def test_panels_cover_neither_each_other_nor_the_note(corners):
    boxes = [np.array([600 * x, 400 * y, 600 * min(1, x + w), 400 * min(1, y + h)], int) for x, y, w, h in corners]
    note = (0, 380, 60, 400)
    layout = Layout(SIZE, boxes, [math.nan] * len(boxes), [note])
    placed = [note]
    for box in boxes:
        # Eight panels and the note take a third of the frame.
        left, top = layout.place((60, 150), box)
        panel = (left, top, left + 150, top + 60)
        assert left >= 0
        assert top >= 0
        assert panel[2] <= 600
        assert panel[3] <= 400
        assert not any(overlap(panel, other) for other in placed)
        placed.append(panel)


def test_without_room_there_is_no_place():
    layout = Layout(SIZE, [], [])
    box = np.array([100, 100, 200, 300])
    assert layout.place((400, 400), box) is not None
    assert layout.place((200, 300), box) is None
    assert layout.place((500, 10), box) is None


@pytest.mark.parametrize(("roll", "free"), [(math.nan, (0, 0.5)), (0, (0, 0.5)), (180, (0.5, 1))])
def test_a_person_who_fills_the_frame_keeps_the_face(roll, free):
    box = np.array([0, 0, 600, 400])
    _, top = Layout(SIZE, [box], [roll]).place((60, 150), box)
    left, _ = Layout(SIZE, [box], [roll]).place((60, 150), box)
    face = (180, 400 * (free[0] + 0.1), 420, 400 * (free[1] - 0.1))
    assert not overlap((left, top, left + 150, top + 60), face)


def test_many_people_leave_most_of_the_frame_to_see():
    actions = (("stand", 91), ("carry/hold", 44), ("listen", 30))
    boxes = [np.array([x, y, x + 0.1, y + 0.15]) for x in np.arange(0.02, 0.85, 0.2) for y in (0.1, 0.4, 0.7)]
    image = np.full((480, 640, 3), 90, np.uint8)
    draw_people(image, [(box, Label(i, actions)) for i, box in enumerate(boxes)])
    assert (image != 90).any(axis=2).mean() < 0.4


@pytest.mark.parametrize("count", [1, 4, 13, 40])
def test_groups_are_drawn(count):
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 0.7, (count, 2))
    actions = (("stand", 91), ("carry/hold", 44), ("listen", 30))
    people = [(np.r_[xy, xy + 0.2], Label(i + 1, actions, 90.0, 0.8)) for i, xy in enumerate(corners)]
    image = np.full((480, 640, 3), 90, np.uint8)
    draw_people(image, people)
    for xy, _ in zip(corners, people, strict=True):
        x, y = (xy * [640, 480]).round().astype(int)
        assert (image[max(y - 3, 0) : y + 3, max(x - 3, 0) : x + 3] != 90).any()
