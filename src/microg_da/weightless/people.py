"""Assignment of segmented pixels to individual people, by boxes at keyframes and by distance between frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

REACH = 0.06
"""Maximum movement of a person's outline between two frames, as a fraction of the picture's diagonal."""

Boxes = Mapping[int, Sequence[float]]


def separate_people(found: np.ndarray, boxes: Sequence[Boxes]) -> list[np.ndarray]:
    """Assign each pixel of people to one person.

    At a keyframe, a pixel inside a box belongs to the person with the nearest box centre, measured in half sides of the
    box. Pixels outside all boxes belong to no person. In the other frames, a pixel belongs to the person with the
    closest pixel in the neighbouring frame, within :data:`REACH`.

    Args:
        found: ``(frames, H, W)`` bool, the pixels of all people.
        boxes: for each person, boxes in [0, 1] by the index of the keyframe.

    Returns:
        For each person ``(frames, H, W)`` bool, without overlap.
    """
    owners = np.full(found.shape, -1, np.int16)
    keyframes = sorted({frame for each in boxes for frame in each})
    for frame in keyframes:
        owners[frame] = _by_boxes(found[frame], {who: each[frame] for who, each in enumerate(boxes) if frame in each})
    known = set(keyframes)
    for frame in range(keyframes[0] - 1, -1, -1):
        owners[frame] = _by_neighbour(found[frame], owners[frame + 1], len(boxes))
    for frame in range(keyframes[0] + 1, len(found)):
        if frame not in known:
            owners[frame] = _by_neighbour(found[frame], owners[frame - 1], len(boxes))
    return [owners == who for who in range(len(boxes))]


def _by_boxes(found: np.ndarray, boxes: Mapping[int, Sequence[float]]) -> np.ndarray:
    height, width = found.shape
    rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    owners = np.full(found.shape, -1, np.int16)
    nearest = np.full(found.shape, np.inf)
    for who, (x1, y1, x2, y2) in boxes.items():
        aside = np.abs(columns - (x1 + x2) / 2) / ((x2 - x1) / 2)
        above = np.abs(rows - (y1 + y2) / 2) / ((y2 - y1) / 2)
        distance = np.hypot(aside, above)
        mine = found & (np.maximum(aside, above) <= 1.0) & (distance < nearest)
        owners[mine], nearest[mine] = who, distance[mine]
    return owners


def _by_neighbour(found: np.ndarray, neighbour: np.ndarray, people: int) -> np.ndarray:
    owners = np.full(found.shape, -1, np.int16)
    nearest = np.full(found.shape, REACH * float(np.hypot(*found.shape)), np.float32)
    for who in range(people):
        there = neighbour == who
        if not there.any():
            continue
        distance = cv2.distanceTransform((~there).astype(np.uint8), cv2.DIST_L2, 5)
        mine = found & (distance < nearest)
        owners[mine], nearest[mine] = who, distance[mine]
    return owners
