"""Boxes of people in one frame, and merging of several detections of the same person."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torchvision.ops import box_iou, nms

OVERLAP = 0.45
"""IoU above which two detections belong to one person."""

NEAR = 45.0
"""Maximum difference in roll, in degrees, between boxes of a person that are averaged."""

SHARPNESS = 4
"""Exponent of the scores that weight boxes in averages, so that confident boxes dominate."""

PART = 0.65
"""Covered share of the smaller box above which two detections at different rolls belong to one person."""


class PersonBoxes(NamedTuple):
    """The boxes of the people in one frame.

    Attributes:
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` inside the frame.
        scores: ``(K,)`` float in [0, 1].
        rolls: ``(K,)`` float, degrees clockwise by which the person is turned in the frame; NaN without a roll search.
    """

    boxes: np.ndarray
    scores: np.ndarray
    rolls: np.ndarray

    def take(self, chosen: np.ndarray) -> PersonBoxes:
        """Select by a mask or an index."""
        return PersonBoxes(self.boxes[chosen], self.scores[chosen], self.rolls[chosen])


class PersonDetector(Protocol):
    """Interface of person detectors."""

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """Return the people in a uint8 ``(H, W, 3)`` image with channels blue, green, red."""


def concatenate(found: list[PersonBoxes]) -> PersonBoxes:
    """Concatenate the boxes of several detections in one frame."""
    boxes, scores, rolls = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return PersonBoxes(boxes, scores, rolls)


def inside_frame(found: PersonBoxes, size: tuple[int, int]) -> PersonBoxes:
    """Clip boxes to a frame of a given height and width, and drop boxes smaller than a pixel."""
    height, width = size
    boxes = np.clip(found.boxes, 0, np.array([width, height] * 2)).astype(np.float64)
    clipped = PersonBoxes(boxes, found.scores.astype(np.float64), found.rolls)
    return clipped.take((boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))


def suppress(found: PersonBoxes) -> PersonBoxes:
    """Keep the detection with the highest score among overlapping detections, in descending order of scores."""
    return found.take(nms(torch.from_numpy(found.boxes), torch.from_numpy(found.scores), OVERLAP).numpy())


def fuse(found: PersonBoxes, preference: np.ndarray) -> PersonBoxes:
    """Merge overlapping detections.

    The preferred detection gives the score and the roll. The box is the mean over the rolls within :data:`NEAR` of that
    roll, weighted by a power of the scores, because the boxes of an upright detector have an error that depends on the
    tilt of the person. Boxes at other rolls are not used, because they often miss the head.

    Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 2021.

    Args:
        found: ``N`` detections of one frame, at several rolls.
        preference: ``(N,)``, larger for better detections.

    Returns:
        One detection per person, in descending order of preference.
    """
    boxes = torch.from_numpy(found.boxes)
    kept = nms(boxes, torch.from_numpy(preference), OVERLAP)
    if not len(kept):
        return found
    overlap = box_iou(boxes, boxes[kept]).numpy()
    # A detection joins the first detection that it overlaps. In suppression, that detection would remove it.
    group = (overlap > OVERLAP).argmax(axis=1)
    best = found.take(kept.numpy())
    apart = np.abs((found.rolls - best.rolls[group] + 180) % 360 - 180)
    weights = np.zeros((len(kept), len(boxes)))
    weights[group, np.arange(len(boxes))] = np.where(apart <= NEAR, np.maximum(found.scores, 1e-9) ** SHARPNESS, 0.0)
    return best._replace(boxes=weights @ found.boxes / weights.sum(axis=1, keepdims=True))


def drop_parts(found: PersonBoxes) -> PersonBoxes:
    """Drop boxes that are a part of a person who was found with a higher score at another roll.

    In a turned frame, a face or a torso often looks like a whole person. Its box lies inside the person's box and is so
    small that :func:`suppress` keeps both. All people that are found at the same roll are kept, because people may
    occlude each other.

    Args:
        found: detections in descending order of scores, as :func:`fuse` returns them.
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
