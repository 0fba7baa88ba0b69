"""Search for people at every roll: a detector of upright people is applied to the frame at several angles."""

from __future__ import annotations

import cv2
import numpy as np

from microg_da.video.person_boxes import PersonBoxes, PersonDetector, concatenate, drop_parts, fuse, inside_frame

GREY = 114
"""The grey level around the image in the training of YOLOX."""

UPRIGHT_BONUS = 0.05
"""Minimum score difference with which a turned detection replaces an upright detection of the same person."""

FAINT = 0.1
"""Minimum score of detections that contribute to the mean box of a person."""

UNSURE = (0.3, 0.7)
"""Range of scores at quarter turns in which a person is also searched at the rolls between them."""

QUARTERS = (0.0, 90.0, 180.0, 270.0)


class RollSearch:
    """Search for people in the frame at several angles, because detectors trained on Earth miss inverted people.

    The angle with the best detection of a person gives the person's roll. The adaptive search uses the four quarter
    turns. A person with a score in :data:`UNSURE` may lie between two quarter turns, so the search also uses the eighth
    turns next to the roll of that person.

    Args:
        detector: a detector of upright people, preferably with a threshold of :data:`FAINT` or lower.
        count: number of evenly spaced angles; 4 for quarter turns. None for the adaptive search.
        threshold: minimum score of people in the result.
    """

    def __init__(self, detector: PersonDetector, count: int | None = None, threshold: float = 0.0) -> None:
        self.detector = detector
        self.adaptive = count is None
        self.rolls = QUARTERS if count is None else tuple(360.0 * np.arange(count) / count)
        self.threshold = threshold
        self.passes = 0
        """The number of passes of the detector."""

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """See :class:`PersonDetector`."""
        found = self._look(image, self.rolls)
        people = _one_box_each(found)
        if self.adaptive:
            between = _rolls_between(people)
            if between:
                people = _one_box_each(concatenate([found, self._look(image, between)]))
        people = drop_parts(people)
        return people.take(people.scores >= self.threshold)

    def _look(self, image: np.ndarray, rolls: tuple[float, ...]) -> PersonBoxes:
        self.passes += len(rolls)
        return concatenate([self._at(image, roll) for roll in rolls])

    def _at(self, image: np.ndarray, roll: float) -> PersonBoxes:
        turned, matrix = turn(image, roll)
        boxes, scores, _ = self.detector(turned)
        back = PersonBoxes(turn_back(boxes, matrix), scores, np.full(len(boxes), roll))
        return inside_frame(back, image.shape[:2])


def _one_box_each(found: PersonBoxes) -> PersonBoxes:
    return fuse(found, found.scores + UPRIGHT_BONUS * (found.rolls == 0))


def _rolls_between(people: PersonBoxes) -> tuple[float, ...]:
    """Return the eighth turns next to quarter turns with an uncertain detection."""
    least, most = UNSURE
    unsure = people.rolls[(people.scores >= least) & (people.scores < most)]
    return tuple(sorted({float((roll + side) % 360) for roll in unsure for side in (-45, 45)}))


def turn(image: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn an image so that a person with a roll of ``roll`` degrees clockwise is upright, without cropping.

    Returns:
        The turned image, and the ``(2, 3)`` matrix from pixels of the image to pixels of the turned image.
    """
    height, width = image.shape[:2]
    cosine, sine = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    linear = np.array([[cosine, sine], [-sine, cosine]]).round(12)
    spread = np.abs(linear) @ [width, height]
    new_width, new_height = np.ceil(spread.round(6)).astype(int)
    # In boxes, the centre of the first pixel is at 0.5; in OpenCV it is at 0.
    shift = np.array([new_width, new_height]) / 2 - linear @ [width / 2, height / 2]
    matrix = np.column_stack([linear, shift])
    for_opencv = np.column_stack([linear, shift + linear @ [0.5, 0.5] - 0.5])
    turned = cv2.warpAffine(image, for_opencv, (int(new_width), int(new_height)), borderValue=(GREY,) * 3)
    return turned, matrix


def turn_back(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Convert boxes of a turned image to boxes of the original image.

    The result bounds the ellipse in the turned box, because the corners of a turned rectangle would enlarge the box. At
    quarter turns the result is exact.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - matrix[:, 2]) @ inverse.T
    half = np.linalg.norm(inverse[None] * (boxes[:, None, 2:] - boxes[:, None, :2]) / 2, axis=2)
    return np.concatenate([centre - half, centre + half], axis=1)
