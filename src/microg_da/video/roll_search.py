"""People at every roll: a detector of upright people looks at the frame turned by several angles."""

from __future__ import annotations

import cv2
import numpy as np

from microg_da.video.person_boxes import PersonBoxes, PersonDetector, concatenate, drop_parts, fuse, inside_frame

GREY = 114
"""The grey level that YOLOX was trained to see around the image."""

UPRIGHT_BONUS = 0.05
"""The smallest difference in score with which a turned detection replaces an upright one of the same person."""

FAINT = 0.1
"""Detections down to this score take part in the mean box of a person."""

UNSURE = (0.3, 0.7)
"""Scores at quarter turns between which a person is looked at again at the rolls between them."""

QUARTERS = (0.0, 90.0, 180.0, 270.0)


class RollSearch:
    """Looks for people in the frame turned by several angles, since detectors trained on Earth miss inverted people.

    The roll at which a person is found best says how they lie in the frame, as finely as it was searched. The adaptive
    search looks at the four quarter turns. Who is found there with a score in :data:`UNSURE` may lie between two of
    them: the eighths on either side of that person's roll are looked at as well.

    Args:
        detector: finds upright people, at best down to a score of :data:`FAINT`.
        count: number of evenly spaced angles; 4 for quarter turns. None for the adaptive search.
        threshold: smallest score of people in the result.
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
    """Turn an image so that a person who lies ``roll`` degrees clockwise stands upright; nothing is cut off.

    Returns:
        the turned image and the ``(2, 3)`` matrix from pixels of the image to pixels of the turned one.
    """
    height, width = image.shape[:2]
    cosine, sine = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    linear = np.array([[cosine, sine], [-sine, cosine]]).round(12)
    spread = np.abs(linear) @ [width, height]
    new_width, new_height = np.ceil(spread.round(6)).astype(int)
    # Pixels are squares with their centre at a half, as boxes have it; OpenCV counts from the first one's centre.
    shift = np.array([new_width, new_height]) / 2 - linear @ [width / 2, height / 2]
    matrix = np.column_stack([linear, shift])
    for_opencv = np.column_stack([linear, shift + linear @ [0.5, 0.5] - 0.5])
    turned = cv2.warpAffine(image, for_opencv, (int(new_width), int(new_height)), borderValue=(GREY,) * 3)
    return turned, matrix


def turn_back(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes of a turned image in the image that was turned.

    A turned box is taken for the ellipse in it, whose corners do not stick out as a rectangle's would; at quarter
    turns that is exact.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - matrix[:, 2]) @ inverse.T
    half = np.linalg.norm(inverse[None] * (boxes[:, None, 2:] - boxes[:, None, :2]) / 2, axis=2)
    return np.concatenate([centre - half, centre + half], axis=1)
