"""Made clips with frames and people, and the clips of a rolling camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from microg_da.data.gravity import RollPlan, proper_box
from microg_da.transforms.camera import keep_inside, mask_box, outline, view_boxes, view_frame, view_mask
from microg_da.weightless.footage import Footage
from microg_da.weightless.plan import ClipPlan, Person
from microg_da.weightless.request import Request


class Row(NamedTuple):
    """A person at a keyframe of a made clip.

    Attributes:
        frame: the keyframe, from 0.
        person: number of the person in the made clip.
        box: ``(x1, y1, x2, y2)`` in [0, 1].
        up: degrees clockwise from the top of the picture.
        actions: action ids.
        video: the original video of the person.
        number: ``person_id`` in the original video.
    """

    frame: int
    person: int
    box: tuple[float, float, float, float]
    up: float
    actions: tuple[int, ...]
    video: str
    number: int


@dataclass(frozen=True)
class Made:
    """A made clip.

    Attributes:
        frames: the frames in order, uint8 ``(H, W, 3)`` with channels blue, green, red.
        rows: the people.
        background: name of the background.
    """

    frames: Iterator[np.ndarray]
    rows: list[Row]
    background: str


def make_rolled(plan: ClipPlan, footage: Footage, request: Request) -> Made:
    """Make the clip of a rolling camera.

    Boxes bound the turned masks if there are masks, else the turned ellipses in the original boxes.

    Raises:
        InputError: if the video cannot be read.
    """
    images = footage.read(plan)
    size = footage.size(plan)
    scale = np.array([size[1], size[0]] * 2, float)
    roll = RollPlan(request.rolls, request.seed, request.spin_limit, request.drift_limit, request.fill)
    seconds = (np.arange(plan.count) - plan.middle) / plan.fps
    seen = [
        (float(seconds[frame]), outline(np.array([box]) * scale))
        for person in plan.people
        for frame, box in person.boxes.items()
    ]
    motion = keep_inside(roll.motion(plan.name), seen, size)
    matrices = [motion.matrix(float(moment), size) for moment in seconds]
    masks = footage.people(plan, images) if footage.knows_people else None
    rows: list[Row] = []
    for index, person in enumerate(plan.people):
        for frame, box in person.boxes.items():
            exact = None if masks is None else mask_box(view_mask(masks[index][frame], matrices[frame], size))
            turned = view_boxes(np.array([box]) * scale, matrices[frame], size)[0] if exact is None else exact
            up = person.ups[frame] + motion.roll + motion.spin * float(seconds[frame])
            rows.append(made_row(frame, person.number, turned / scale, up, plan, person))
    views = (view_frame(image, matrix, request.fill) for image, matrix in zip(images, matrices, strict=True))
    return Made(views, rows, "as filmed")


def made_row(
    frame: int, number: int, box: np.ndarray, up: float, plan: ClipPlan, person: Person, labelled: int | None = None
) -> Row:
    """Return the row of a person.

    Args:
        frame: the keyframe in the made clip.
        number: number of the person in the made clip.
        box: the box in [0, 1], which may have no area.
        up: up in degrees.
        plan: the original clip of the person.
        person: the person.
        labelled: the keyframe of the original clip whose labels are used; None for ``frame``.
    """
    x1, y1, x2, y2 = proper_box(box).tolist()
    actions = person.actions[frame if labelled is None else labelled]
    return Row(frame, number, (x1, y1, x2, y2), up % 360.0, actions, plan.video_id, person.number)
