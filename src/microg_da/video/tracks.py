"""Tracks of people: detections joined over time, and positions of people between two detections."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX
from microg_da.errors import InputError

PEOPLE_COLUMNS = ["seconds", *BOX, "person_id", "score", "roll", "keyframe"]
"""Columns of the people of a video: one row per person and examined moment; boxes are in [0, 1]."""

LONGEST_GAP = 1.0
"""Seconds without a detection after which a person who returns gets a new number."""

_LEAST_OVERLAP = 0.15
_UNITS = 1000.0
"""Frame size in pixels for which the noise parameters of the tracker are set."""


class PersonTracker:
    """Tracks people through successive frames with Norfair, by a Kalman filter and overlap.

    Args:
        rate: frames per second, including skipped frames.

    Raises:
        InputError: if Norfair is not installed.
    """

    def __init__(self, rate: float) -> None:
        try:
            import norfair
        except ImportError as error:
            raise InputError(
                "joining boxes into tracks needs Norfair: pip install 'microg_da[detect]', or give boxes with person_id"
            ) from error
        self._norfair = norfair
        # Number of frames for which a missing person is kept. Each detection restarts the count.
        self._patience = max(2, round(LONGEST_GAP * rate))
        self._tracker = norfair.Tracker(
            "iou",
            distance_threshold=1 - _LEAST_OVERLAP,
            hit_counter_max=self._patience,
            initialization_delay=0,
        )
        self._step = 0

    def skip(self) -> None:
        """Skip a frame without detection; tracks are extrapolated."""
        self._tracker.update()

    def update(self, boxes: np.ndarray) -> np.ndarray:
        """Return the numbers of the people in the next frame.

        Args:
            boxes: ``(K, 4)`` in [0, 1]. Call the method also for frames without people.

        Returns:
            ``(K,)`` int64 person numbers, counted from 1.
        """
        self._step += 1
        corners = boxes.reshape(-1, 2, 2) * _UNITS
        detections = [self._norfair.Detection(each, data=(self._step, i)) for i, each in enumerate(corners)]
        ids = np.zeros(len(boxes), np.int64)
        for tracked in self._tracker.update(detections, period=self._patience):
            step, place = tracked.last_detection.data
            if step == self._step:
                ids[place] = tracked.id or 0  # never None, because tracks need no confirmation
        return ids


@contextmanager
def collapses_as_faults(faults: list[str]) -> Iterator[None]:
    """Count Norfair's warnings about predicted boxes without area in the block, and add one line to ``faults``.

    Norfair predicts boxes between two detections. A box that shrinks fast can lose its area. Norfair's warning does not
    name the video.
    """
    counter = _CollapseCounter()
    logger = logging.getLogger("norfair.distances")
    logger.addFilter(counter)
    try:
        yield
    finally:
        logger.removeFilter(counter)
        if counter.count:
            times = "once" if counter.count == 1 else f"{counter.count} times"
            faults.append(
                f"the tracker predicted a box without area {times}; the person may have a new person_id afterwards"
            )


class _CollapseCounter(logging.Filter):
    """Count and drop this warning, and pass all other records."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        collapsed = record.getMessage().startswith("Incorrect bounding boxes")
        self.count += collapsed
        return not collapsed


def drop_glimpses(people: pd.DataFrame) -> pd.DataFrame:
    """Drop tracks with a single detection, because most of them are not people."""
    seen = people.groupby("person_id").person_id.transform("size")
    return people[seen > 1]


def vote_on_rolls(people: pd.DataFrame, seconds: float = 1.0) -> pd.DataFrame:
    """Set each row's roll to the roll with the largest sum of scores in its track within ``seconds`` of the row."""
    if people.roll.isna().all():
        return people
    people = people.sort_values(["person_id", "seconds"], kind="stable")
    rolls = np.unique(people.roll.dropna())
    votes = (people.roll.to_numpy()[:, None] == rolls) * people.score.to_numpy()[:, None]
    best = average_over_tracks(votes, people.person_id.to_numpy(), people.seconds.to_numpy(), seconds).argmax(axis=1)
    return people.assign(roll=np.where(people.roll.isna(), np.nan, rolls[best])).sort_index()


def average_over_tracks(values: np.ndarray, person_id: np.ndarray, seconds: np.ndarray, width: float) -> np.ndarray:
    """Replace each value by the average over its track, weighted by a triangle in time.

    Args:
        values: ``(N, C)`` values.
        person_id: ``(N,)``, the person of each row.
        seconds: ``(N,)``, the time of each row.
        width: distance in seconds at which the weight is 0; 0 for no averaging.

    Returns:
        ``(N, C)``, in the order of ``values``.
    """
    if width <= 0 or not len(values):
        return values
    order = np.lexsort((seconds, person_id))
    value, person, time = values[order].astype(np.float64), person_id[order], seconds[order]
    total, weight = value.copy(), np.ones(len(value))
    for lag in range(1, len(value)):
        near = np.where(person[lag:] == person[:-lag], 1 - (time[lag:] - time[:-lag]) / width, 0).clip(0)
        if not near.any():
            break
        total[lag:] += near[:, None] * value[:-lag]
        total[:-lag] += near[:, None] * value[lag:]
        weight[lag:] += near
        weight[:-lag] += near
    averaged = np.empty_like(value)
    averaged[order] = total / weight[:, None]
    return averaged


def average_ups(ups: np.ndarray, person_id: np.ndarray, seconds: np.ndarray, width: float) -> np.ndarray:
    """Average directions over tracks on the circle, with the weights of :func:`average_over_tracks`.

    Args:
        ups: ``(N,)`` degrees; either all are known or all are NaN.
        person_id: ``(N,)``, the person of each row.
        seconds: ``(N,)``, the time of each row.
        width: see :func:`average_over_tracks`.

    Returns:
        ``(N,)`` degrees in [0, 360).
    """
    angles = np.deg2rad(ups)
    mean = average_over_tracks(np.stack([np.sin(angles), np.cos(angles)], axis=1), person_id, seconds, width)
    return np.asarray(np.rad2deg(np.arctan2(mean[:, 0], mean[:, 1])) % 360)


class Seen(NamedTuple):
    """One person at one moment.

    Attributes:
        person_id: number of the person.
        box: ``(4,)`` in [0, 1].
        roll: degrees clockwise, NaN if unknown.
        row: index of the nearest keyframe row of the table in time; -1 if none is near.
    """

    person_id: int
    box: np.ndarray
    roll: float
    row: int


class Tracks:
    """Positions of people at any moment, interpolated linearly between two detections.

    Args:
        people: a table with :data:`PEOPLE_COLUMNS`.
        reach: seconds before the first and after the last detection of a person in which the box is still shown, and
            the maximum distance of a keyframe whose labels are shown.
    """

    def __init__(self, people: pd.DataFrame, reach: float) -> None:
        self._reach = reach
        self._tracks: dict[int, _Track] = {}
        self._of_second: dict[int, list[int]] = {}
        people = people.assign(row=people.keyframe.cumsum() - 1)
        people = people.sort_values("seconds", kind="stable")
        for person in sorted(people.person_id.unique().tolist()):
            track = self._tracks[person] = _Track(people[people.person_id == person])
            first, last = track.seconds[0] - reach, track.seconds[-1] + reach
            for second in range(int(np.floor(first)), int(np.floor(last)) + 1):
                self._of_second.setdefault(second, []).append(person)

    def at(self, seconds: float) -> Iterator[Seen]:
        """Yield all people who are present at a moment."""
        for person in self._of_second.get(int(np.floor(seconds)), ()):
            seen = self._tracks[person].at(person, seconds, self._reach)
            if seen is not None:
                yield seen


class _Track:
    def __init__(self, rows: pd.DataFrame) -> None:
        self.seconds = rows.seconds.to_numpy()
        self.boxes = rows[BOX].to_numpy()
        self.rolls = rows.roll.to_numpy()
        keyframes = rows[rows.keyframe]
        self.keyframe_seconds = keyframes.seconds.to_numpy()
        self.keyframe_rows = keyframes.row.to_numpy()

    def at(self, person: int, seconds: float, reach: float) -> Seen | None:
        after = int(np.searchsorted(self.seconds, seconds))
        before = max(after - 1, 0)
        after = min(after, len(self.seconds) - 1)
        start, end = self.seconds[before], self.seconds[after]
        if not start - reach <= seconds <= end + reach:
            return None
        if end - start > LONGEST_GAP and min(seconds - start, end - seconds) > reach:
            return None
        share = float(np.clip((seconds - start) / (end - start), 0, 1)) if end > start else 0.0
        box = (1 - share) * self.boxes[before] + share * self.boxes[after]
        return Seen(person, box, float(self.rolls[after if share > 0.5 else before]), self._keyframe(seconds, reach))

    def _keyframe(self, seconds: float, reach: float) -> int:
        if not len(self.keyframe_seconds):
            return -1
        nearest = int(np.abs(self.keyframe_seconds - seconds).argmin())
        near = abs(self.keyframe_seconds[nearest] - seconds) <= reach + 1e-6
        return int(self.keyframe_rows[nearest]) if near else -1
