"""Sources of the boxes of a video's people: a person detector, or a table of boxes."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, read_boxes
from microg_da.errors import InputError, nearest
from microg_da.video.tracks import PEOPLE_COLUMNS, PersonTracker, drop_glimpses, vote_on_rolls

if TYPE_CHECKING:
    from microg_da.video.person_boxes import PersonDetector
    from microg_da.video.reader import Frame, Video

RATE = 30.0
"""The frame rate of windows and moments, independent of the video; MicroG-4M uses the same rate."""

DETECTIONS_PER_SECOND = 6.0
"""The minimum rate of person detection, in frames per second: a tracker must not lose a person who walks."""


class FramePeople(NamedTuple):
    """The people at one moment, as arrays, because a long video has many moments.

    Attributes:
        seconds: the time of the moment.
        keyframe: whether the people's actions are predicted.
        boxes: ``(K, 4)`` in [0, 1].
        person_id: ``(K,)`` int64.
        scores: ``(K,)``, scores of the person detector.
        rolls: ``(K,)`` degrees clockwise, NaN if unknown.
    """

    seconds: float
    keyframe: bool
    boxes: np.ndarray
    person_id: np.ndarray
    scores: np.ndarray
    rolls: np.ndarray


class BoxSource(Protocol):
    """Source of the boxes of people, frame by frame."""

    def people_in(self, number: int, frame: Frame) -> FramePeople | None:
        """Return the people of frame ``number`` at :data:`RATE`, None if the frame is skipped. Frames come in order."""

    def settle(self, people: pd.DataFrame) -> pd.DataFrame:
        """Return the final rows after the last frame, with the index of the original rows."""


class DetectorBoxes:
    """Boxes from a detector, joined by a tracker.

    Args:
        detector: the person detector.
        every: seconds from keyframe to keyframe.
    """

    def __init__(self, detector: PersonDetector, every: float) -> None:
        self._detector = detector
        self._keyframe_step = max(1, round(every * RATE))
        frames = int(np.ceil(self._keyframe_step * DETECTIONS_PER_SECOND / RATE - 1e-9))
        self._steps = set(np.round(np.arange(frames) * self._keyframe_step / frames).astype(int).tolist())
        self._tracker = PersonTracker(frames * RATE / self._keyframe_step)

    def people_in(self, number: int, frame: Frame) -> FramePeople | None:
        """See :class:`BoxSource`."""
        if number % self._keyframe_step not in self._steps:
            return None
        height, width = frame.image.shape[:2]
        found = self._detector(frame.image)
        boxes = found.boxes / np.array([width, height] * 2)
        keyframe = number % self._keyframe_step == 0
        return FramePeople(number / RATE, keyframe, boxes, self._tracker.update(boxes), found.scores, found.rolls)

    def settle(self, people: pd.DataFrame) -> pd.DataFrame:
        """Drop tracks with a single detection, and make rolls consistent within each track."""
        return vote_on_rolls(drop_glimpses(people))


class TableBoxes:
    """Boxes from a table, for one video.

    Args:
        boxes: rows of :func:`read_box_table` for the video.
        every: seconds from keyframe to keyframe, at least.
        video: the video.

    Raises:
        InputError: if there are no boxes, or boxes after the end of the video.
    """

    def __init__(self, boxes: pd.DataFrame, every: float, video: Video) -> None:
        if boxes.empty:
            raise InputError(f"{video.path}: the table of boxes has no box of {video.video_id!r}")
        last = float(boxes.frame_stamp.max())
        if video.seconds is not None and last > video.seconds + 1:
            raise InputError(
                f"{video.path}: the video lasts {video.seconds:.1f} s, but the table has boxes at second {last:g}. "
                f"Give stamps in seconds from the beginning of the file, not in frames."
            )
        numbers = (boxes.frame_stamp * RATE).round().astype(int)
        self._of_frame: dict[Hashable, pd.DataFrame] = dict(iter(boxes.groupby(numbers.to_numpy())))
        self._keyframes = _spread(np.unique(numbers), every * RATE)
        self._tracker: PersonTracker | None = None
        if "person_id" not in boxes:
            steps = np.diff(np.unique(boxes.frame_stamp))
            self._tracker = PersonTracker(1 / float(np.median(steps)) if len(steps) else 1.0)

    def people_in(self, number: int, frame: Frame) -> FramePeople | None:
        """See :class:`BoxSource`."""
        rows = self._of_frame.get(number)
        if rows is None:
            return None
        boxes = rows[BOX].to_numpy(float)
        person_id = rows.person_id.to_numpy() if self._tracker is None else self._tracker.update(boxes)
        scores, rolls = np.ones(len(rows)), np.full(len(rows), np.nan)
        return FramePeople(number / RATE, number in self._keyframes, boxes, person_id, scores, rolls)

    def settle(self, people: pd.DataFrame) -> pd.DataFrame:
        """Return the table unchanged, because its author selected the people."""
        return people


class StillBoxes:
    """Boxes from a detector in a still, numbered from left to right. All detections are kept.

    Args:
        detector: the person detector.
    """

    def __init__(self, detector: PersonDetector) -> None:
        self._detector = detector

    def people_in(self, number: int, frame: Frame) -> FramePeople | None:
        """See :class:`BoxSource`."""
        height, width = frame.image.shape[:2]
        found = self._detector(frame.image)
        order = np.argsort(found.boxes[:, 0], kind="stable")
        boxes = found.boxes[order] / np.array([width, height] * 2)
        return FramePeople(0.0, True, boxes, np.arange(1, len(boxes) + 1), found.scores[order], found.rolls[order])

    def settle(self, people: pd.DataFrame) -> pd.DataFrame:
        """Return all rows."""
        return people


def boxes_of_still(boxes: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the boxes of a table for a still, all at second 0, with numbers for the people.

    Args:
        boxes: rows of :func:`read_box_table` for the still.
        path: the still, for messages.

    Raises:
        InputError: if the boxes have different stamps.
    """
    if boxes.frame_stamp.nunique() > 1:
        raise InputError(
            f"{path}: the file is a still, but its boxes in the table have several stamps. Give one stamp."
        )
    if "person_id" not in boxes:
        boxes = boxes.assign(person_id=np.arange(1, len(boxes) + 1))
    return boxes.assign(frame_stamp=0.0)


def join_frames(frames: list[FramePeople]) -> pd.DataFrame:
    """Join the people of many moments into one table with :data:`~microg_da.video.tracks.PEOPLE_COLUMNS`."""
    counts = [len(each.boxes) for each in frames]
    table = pd.DataFrame(np.concatenate([np.empty((0, 4)), *(each.boxes for each in frames)]), columns=BOX)
    table["seconds"] = np.repeat([each.seconds for each in frames], counts).astype(float)
    table["person_id"] = np.concatenate([np.empty(0, np.int64), *(each.person_id for each in frames)])
    table["score"] = np.concatenate([np.empty(0), *(each.scores for each in frames)])
    table["roll"] = np.concatenate([np.empty(0), *(each.rolls for each in frames)])
    table["keyframe"] = np.repeat([each.keyframe for each in frames], counts).astype(bool)
    return table[PEOPLE_COLUMNS]


def read_box_table(path: str | Path, video_ids: list[str]) -> pd.DataFrame:
    """Read the boxes of videos: ``video_id, seconds, x1, y1, x2, y2[, person_id]``, or AVA annotations.

    Raises:
        InputError: if the file is not such a table, or contains none of the videos.
    """
    boxes = read_boxes(path)
    known = set(boxes.video_id)
    if not known.intersection(video_ids):
        guess = nearest(video_ids[0], known)
        hint = f" Did you mean {guess!r}?" if guess else ""
        named = ", ".join(sorted(known)[:5]) or "none"
        raise InputError(
            f"{path}: the table has no boxes of {', '.join(map(repr, video_ids[:5]))}.{hint} Its videos: {named}. "
            f"The video_id is the file name without the suffix."
        )
    return boxes[boxes.video_id.isin(video_ids)].reset_index(drop=True)


def _spread(numbers: np.ndarray, least: float) -> set[int]:
    """The first of some ascending numbers, and of the others those that are far enough from the one before."""
    chosen: list[int] = []
    for number in numbers.tolist():
        if not chosen or number - chosen[-1] >= least - 0.5:
            chosen.append(number)
    return set(chosen)
