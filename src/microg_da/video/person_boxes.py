"""Boxes of people in one frame, and merging of several detections of one person."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torchvision.ops import box_iou, nms

OVERLAP = 0.45
"""IoU above which two detections are one person's."""

NEAR = 45.0
"""Degrees within which another roll's box of a person is worth averaging."""

SHARPNESS = 4
"""The power of scores that weights boxes in averages, so that confident boxes dominate."""

PART = 0.65
"""Share of the smaller box above which two detections at different rolls are one person's."""


class PersonBoxes(NamedTuple):
    """The boxes of the people in one frame.

    Attributes:
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` inside the frame.
        scores: ``(K,)`` float in [0, 1].
        rolls: ``(K,)`` float, degrees clockwise by which the person lies in the frame; NaN where no roll was searched.
    """

    boxes: np.ndarray
    scores: np.ndarray
    rolls: np.ndarray

    def take(self, chosen: np.ndarray) -> PersonBoxes:
        """Select by a mask or an index."""
        return PersonBoxes(self.boxes[chosen], self.scores[chosen], self.rolls[chosen])


class PersonDetector(Protocol):
    """Finds people in a frame."""

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """The people in a uint8 ``(H, W, 3)`` image, channels blue, green, red."""


def concatenate(found: list[PersonBoxes]) -> PersonBoxes:
    """The boxes of several looks at one frame, one after the other."""
    boxes, scores, rolls = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return PersonBoxes(boxes, scores, rolls)


def inside_frame(found: PersonBoxes, size: tuple[int, int]) -> PersonBoxes:
    """Clip boxes to a frame of some height and width, and drop those with less than a pixel."""
    height, width = size
    boxes = np.clip(found.boxes, 0, np.array([width, height] * 2)).astype(np.float64)
    clipped = PersonBoxes(boxes, found.scores.astype(np.float64), found.rolls)
    return clipped.take((boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))


def suppress(found: PersonBoxes) -> PersonBoxes:
    """Keep the detections with the highest score among overlapping ones, in descending order."""
    return found.take(nms(torch.from_numpy(found.boxes), torch.from_numpy(found.scores), OVERLAP).numpy())


def fuse(found: PersonBoxes, preference: np.ndarray) -> PersonBoxes:
    """Merge overlapping detections.

    The preferred one gives the score and the roll. The box is the mean over the rolls within :data:`NEAR` of that roll,
    weighted by a power of the scores: the box that an upright detector puts around a tilted person is off in a way that
    depends on the tilt. Boxes found farther from the person's roll are left out, because they often miss the head.

    Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 2021.

    Args:
        found: ``N`` detections of one frame, at several rolls.
        preference: ``(N,)``, which is the best.

    Returns:
        one detection per person, the preferred first.
    """
    boxes = torch.from_numpy(found.boxes)
    kept = nms(boxes, torch.from_numpy(preference), OVERLAP)
    if not len(kept):
        return found
    overlap = box_iou(boxes, boxes[kept]).numpy()
    # A detection belongs to the first one that it overlaps, as in suppression, where that one removes it.
    group = (overlap > OVERLAP).argmax(axis=1)
    best = found.take(kept.numpy())
    apart = np.abs((found.rolls - best.rolls[group] + 180) % 360 - 180)
    weights = np.zeros((len(kept), len(boxes)))
    weights[group, np.arange(len(boxes))] = np.where(apart <= NEAR, np.maximum(found.scores, 1e-9) ** SHARPNESS, 0.0)
    return best._replace(boxes=weights @ found.boxes / weights.sum(axis=1, keepdims=True))


def drop_parts(found: PersonBoxes) -> PersonBoxes:
    """Without boxes that are a part of a person found with a higher score at another roll.

    A face or a torso often looks like a whole person once the frame is turned. Its box lies inside the person's and is
    so much smaller that :func:`suppress` keeps both. People found at the same roll are all kept: one may stand before
    another.

    Args:
        found: the surest first, as :func:`fuse` returns them.
    """
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for place, (box, roll) in enumerate(zip(found.boxes, found.rolls, strict=True)):
        others = [other for other in kept if found.rolls[other] != roll]
        sides = np.minimum(box[2:], found.boxes[others, 2:]) - np.maximum(box[:2], found.boxes[others, :2])
        shared = sides.clip(0).prod(axis=1) / np.minimum(area[place], area[others])
        if not (shared > PART).any():
            kept.append(place)
    return found.take(np.array(kept, np.int64))
