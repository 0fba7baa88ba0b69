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
"""Columns of a video's people: one row per person and moment looked at; boxes in [0, 1]."""

LONGEST_GAP = 1.0
"""Seconds without a detection after which a person who comes back is a new person."""

_LEAST_OVERLAP = 0.15
_UNITS = 1000.0
"""The tracker's noise is meant for pixels of a frame of about this size."""


class PersonTracker:
    """Numbers the people of frames that come one after the other, with Norfair: a Kalman filter and overlap.

    Args:
        rate: frames per second, those that are skipped among them.

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
        # Frames for which a missing person is kept; each detection restarts the count, the first one too.
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
        """The numbers of the people in the next frame.

        Args:
            boxes: ``(K, 4)`` in [0, 1]; call also for a frame without people.

        Returns:
            ``(K,)`` int64, counted from 1; one number is one person.
        """
        self._step += 1
        corners = boxes.reshape(-1, 2, 2) * _UNITS
        detections = [self._norfair.Detection(each, data=(self._step, i)) for i, each in enumerate(corners)]
        ids = np.zeros(len(boxes), np.int64)
        for tracked in self._tracker.update(detections, period=self._patience):
            step, place = tracked.last_detection.data
            if step == self._step:
                ids[place] = tracked.id or 0  # never None: no person waits to be confirmed
        return ids


@contextmanager
def collapses_as_faults(faults: list[str]) -> Iterator[None]:
    """Within the block, count Norfair's warnings of predicted boxes without area; then add one line to ``faults``.

    Norfair predicts where people are between two looks. A box that shrinks fast can end up without area, of which
    Norfair warns without a word about the video.
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
                f"the tracker predicted a box without area {times}; the person may continue with a new person_id"
            )


class _CollapseCounter(logging.Filter):
    """Counts this warning, and passes all other records."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        collapsed = record.getMessage().startswith("Incorrect bounding boxes")
        self.count += collapsed
        return not collapsed


def drop_glimpses(people: pd.DataFrame) -> pd.DataFrame:
    """Without tracks that a detector saw only once: most of them are not people."""
    seen = people.groupby("person_id").person_id.transform("size")
    return people[seen > 1]


def vote_on_rolls(people: pd.DataFrame, seconds: float = 1.0) -> pd.DataFrame:
    """Give each row the roll that has the largest sum of scores in its track within some seconds before and after."""
    if people.roll.isna().all():
        return people
    people = people.sort_values(["person_id", "seconds"], kind="stable")
    rolls = np.unique(people.roll.dropna())
    votes = (people.roll.to_numpy()[:, None] == rolls) * people.score.to_numpy()[:, None]
    best = average_over_tracks(votes, people.person_id.to_numpy(), people.seconds.to_numpy(), seconds).argmax(axis=1)
    return people.assign(roll=np.where(people.roll.isna(), np.nan, rolls[best])).sort_index()


def average_over_tracks(values: np.ndarray, person_id: np.ndarray, seconds: np.ndarray, width: float) -> np.ndarray:
    """Replace each value by the average of its track's, weighted by a triangle in time.

    Args:
        values: ``(N, C)``.
        person_id: ``(N,)``, the person of each row.
        seconds: ``(N,)``, when it was.
        width: seconds at which the weight has fallen to 0; 0 leaves the values as they are.

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
    """Average directions over tracks as :func:`average_over_tracks` does values, on the circle.

    Args:
        ups: ``(N,)`` degrees; NaN where unknown, and then all are.
        person_id: ``(N,)``, the person of each row.
        seconds: ``(N,)``, when it was.
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
        person_id: who.
        box: ``(4,)`` in [0, 1].
        roll: degrees clockwise, NaN if unknown.
        row: which of the table's keyframe rows is nearest in time; -1 without one near.
    """

    person_id: int
    box: np.ndarray
    roll: float
    row: int


class Tracks:
    """Positions of people at any moment; boxes move evenly between two detections.

    Args:
        people: a table with :data:`PEOPLE_COLUMNS`.
        reach: seconds before the first and after the last detection of a person for which the box still stands, and
            how far a keyframe may be for its labels to hold.
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
        """All people who are there at a moment."""
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
