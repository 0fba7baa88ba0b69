"""Live prediction of a camera or a stream: actions are reported as soon as a window has arrived.

Each frame enters the buffer of windows. Person detection and scoring take longer than a frame, so they use the newest
frame and cause no backlog. Only frames that arrive while the queue is full are lost.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, DETECTION_COLUMNS, write_detections
from microg_da.files import write_json
from microg_da.types import ClipBatch, ClipKey, Prediction
from microg_da.video.action_scorer import ActionScorer, Window, WindowBuffer
from microg_da.video.box_sources import DETECTIONS_PER_SECOND, RATE
from microg_da.video.live_source import Arrived, LatestFrames, LiveSource
from microg_da.video.person_boxes import PersonDetector
from microg_da.video.predict import DECIMALS, PredictOptions
from microg_da.video.reader import Frame
from microg_da.video.tracks import PersonTracker, average_over_tracks

SUMMARY = "stream.json"

_LONGEST_GAP = 2 * RATE
"""Maximum pause of the stream in frames. A longer pause is shortened to this length."""


class Answer(NamedTuple):
    """Predictions for the people at a keyframe.

    Attributes:
        seconds: time of the keyframe from the beginning of the stream.
        boxes: ``(K, 4)`` in [0, 1].
        person_id: ``(K,)``.
        probabilities: ``(K, C)``, averaged over the last seconds of each person.
        since_window: seconds from the arrival of the window's last frame to the answer.
        since_keyframe: seconds from the arrival of the keyframe to the answer.
    """

    seconds: float
    boxes: np.ndarray
    person_id: np.ndarray
    probabilities: np.ndarray
    since_window: float
    since_keyframe: float


@dataclass(frozen=True)
class Latency:
    """Seconds from an arrival to an answer; NaN without an answer."""

    median: float
    percentile_95: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Summarise the times of all answers."""
        if not seconds:
            return cls(float("nan"), float("nan"), float("nan"))
        return cls(float(np.median(seconds)), float(np.percentile(seconds, 95)), max(seconds))

    def __str__(self) -> str:
        return f"median {1000 * self.median:.0f} ms, 95 % {1000 * self.percentile_95:.0f} ms"


@dataclass(frozen=True)
class StreamFacts:
    """Content of ``stream.json``.

    Attributes:
        source: the source without a password.
        seconds: time in which frames arrived.
        frames: number of frames that arrived.
        dropped: number of these frames that were lost because the queue was full.
        keyframes: number of predicted keyframes.
        persons: number of distinct people.
        detections: number of rows in ``detections.csv``.
        since_window: latency from the arrival of the last frame of a window.
        since_keyframe: latency from the arrival of the keyframe, which includes half of the window.
        faults: errors in the stream.
    """

    source: str
    seconds: float
    frames: int
    dropped: int
    keyframes: int
    persons: int
    detections: int
    since_window: Latency
    since_keyframe: Latency
    faults: tuple[str, ...]


def predict_stream(
    source: LiveSource,
    detector: PersonDetector,
    scorer: ActionScorer,
    options: PredictOptions,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    show: Callable[[Answer], None] = lambda answer: None,
    queue: LatestFrames | None = None,
) -> StreamFacts:
    """Predict a live source until it ends or is stopped, and append detections to ``detections.csv``.

    Args:
        source: the open source, which is read once.
        detector: the person detector.
        scorer: predicts the actions.
        options: keyframes, threshold and smoothing; nothing is drawn.
        folder: the folder for ``detections.csv`` and ``stream.json``.
        stop: ends the stream when it is set.
        show: called with each answer.
        queue: the queue between the source and the detector.
    """
    stop, queue = stop or threading.Event(), queue or LatestFrames()
    path = write_detections(pd.DataFrame(columns=DETECTION_COLUMNS), folder / "detections.csv", scores="probability")
    live = _Live(source.video_id, queue, detector, replace(scorer, batch_size=1), options)
    with path.open("a", encoding="utf-8") as file:

        def write(answer: Answer) -> None:
            table = detection_rows(source.video_id, answer, scorer.taxonomy.ids, options.threshold)
            table.to_csv(file, header=False, index=False)
            file.flush()
            live.detections += len(table)
            show(answer)

        try:
            live.run(write, lambda: source.read_into(queue, stop))
        finally:
            stop.set()
            if live.reader is not None:
                live.reader.join(timeout=1)  # a stream without frames may block the thread
    facts = live.facts(source)
    write_json(folder / SUMMARY, asdict(facts))
    return facts


def detection_rows(video_id: str, answer: Answer, action_ids: tuple[int, ...], threshold: float) -> pd.DataFrame:
    """Return the actions of an answer with a probability of at least ``threshold``, in AVA's format, in seconds."""
    row, column = np.nonzero(answer.probabilities >= threshold)
    table = pd.DataFrame(answer.boxes[row].round(DECIMALS), columns=BOX)
    table["video_id"] = video_id
    table["frame_stamp"] = round(answer.seconds, DECIMALS)
    table["action_id"] = np.array(action_ids, np.int64)[column]
    table["score"] = answer.probabilities[row, column].round(DECIMALS)
    return table[DETECTION_COLUMNS]


@contextmanager
def interrupt_stops(stop: threading.Event) -> Iterator[None]:
    """In the block, the first Ctrl-C or SIGTERM sets ``stop``; a second signal acts as usual. Main thread only."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def handle(*_: object) -> None:
        stop.set()
        restore()

    for number in earlier:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


class _Keyframe(NamedTuple):
    """The people at a keyframe whose window has no prediction yet."""

    number: int
    arrived: Arrived
    boxes: np.ndarray
    person_id: np.ndarray


class _Live:
    """One stream, from frames to answers.

    The class is also a sink: a pass gives it each prediction before the next window is read.
    """

    def __init__(
        self,
        video_id: str,
        queue: LatestFrames,
        detector: PersonDetector,
        scorer: ActionScorer,
        options: PredictOptions,
    ) -> None:
        self._video_id = video_id
        self._queue = queue
        self._detector = detector
        self._scorer = scorer
        self._options = options
        self._buffer = WindowBuffer(scorer)
        self._tracker = PersonTracker(DETECTIONS_PER_SECOND)
        self._times_seen: Counter[int] = Counter()
        self._waiting: deque[_Keyframe] = deque()
        self._asked: deque[tuple[_Keyframe, float]] = deque()  # with the arrival of the window's last frame
        self._recent: deque[tuple[float, np.ndarray, np.ndarray]] = deque()
        self._number = -1
        self._skipped = 0.0  # number of frames by which pauses of the stream were shortened
        self._last_detection = self._last_keyframe = -(10**9)
        self._newest: Arrived | None = None
        self._answers: list[tuple[float, float]] = []
        self.detections = 0
        self.reader: threading.Thread | None = None

    def run(self, write: Callable[[Answer], None], begin: Callable[[], threading.Thread]) -> None:
        """Read the queue to its end; ``begin`` starts the thread that fills the queue when everything is ready."""
        self._write, self._begin = write, begin
        self._scorer.predict(self._windows(), self)

    def facts(self, source: LiveSource) -> StreamFacts:
        """Return the summary of the finished stream."""
        return StreamFacts(
            source=source.name,
            seconds=round(self._newest.frame.seconds, 3) if self._newest else 0.0,
            frames=self._queue.received,
            dropped=self._queue.dropped,
            keyframes=len(self._answers),
            persons=sum(count > 1 for count in self._times_seen.values()),
            detections=self.detections,
            since_window=Latency.of([window for window, _ in self._answers]),
            since_keyframe=Latency.of([keyframe for _, keyframe in self._answers]),
            faults=tuple(source.faults),
        )

    # ------------------------------------------------------------------------------------------------- frames in

    def _windows(self) -> Iterator[Window]:
        self.reader = self._begin()
        for frames in self._queue:
            ready = [window for arrived in frames for window in self._add(arrived)]
            self._look(frames[-1])
            yield from ready
        while self._waiting and self._newest is not None:
            yield self._next_window(self._newest.moment)

    def _add(self, arrived: Arrived) -> Iterator[Window]:
        """Add a frame, and yield the windows that it completes."""
        number = round(arrived.frame.seconds * RATE - self._skipped)
        if number - self._number > _LONGEST_GAP:
            self._skipped += number - self._number - 1
            number = self._number + 1
        shown = self._newest.frame if self._newest else arrived.frame
        self._newest = arrived
        for missing in range(self._number + 1, number + 1):  # empty if the source is faster
            self._buffer.add(missing, arrived.frame if missing == number else shown)
            self._number = missing
            while self._waiting and self._buffer.filled(self._waiting[0].number):
                yield self._next_window(arrived.moment)

    def _next_window(self, moment: float) -> Window:
        keyframe = self._waiting.popleft()
        self._asked.append((keyframe, moment))
        key = ClipKey(self._video_id, keyframe.number + 1)
        return Window(self._buffer.window(keyframe.number), keyframe.boxes, key)

    def _look(self, arrived: Arrived) -> None:
        """Detect people in the newest frame, if a detection is due."""
        step = self._options.every * RATE
        is_keyframe = self._number - self._last_keyframe >= round(step)
        if not is_keyframe and self._number - self._last_detection < RATE / DETECTIONS_PER_SECOND:
            return
        self._last_detection = self._number
        boxes = self._find(arrived.frame)
        person_id = self._tracker.update(boxes)
        self._times_seen.update(person_id.tolist())
        if is_keyframe:
            self._last_keyframe = self._number
            if len(boxes):
                self._waiting.append(_Keyframe(self._number, arrived, boxes, person_id))

    def _find(self, frame: Frame) -> np.ndarray:
        height, width = frame.image.shape[:2]
        return np.asarray(self._detector(frame.image).boxes / np.array([width, height] * 2))

    # ------------------------------------------------------------------------------------------------ answers out

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Answer one window."""
        keyframe, window_arrived = self._asked.popleft()
        probabilities = prediction.logits.float().sigmoid().cpu().numpy()
        # A person with a single detection is left out, as in DetectorBoxes.
        seen = np.array([self._times_seen[person] > 1 for person in keyframe.person_id.tolist()], bool)
        person_id = keyframe.person_id[seen]
        averaged = self._average(keyframe.arrived.frame.seconds, person_id, probabilities[seen])
        now = time.monotonic()
        since = now - window_arrived, now - keyframe.arrived.moment
        self._answers.append(since)
        self._write(Answer(keyframe.arrived.frame.seconds, keyframe.boxes[seen], person_id, averaged, *since))

    def _average(self, seconds: float, person_id: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Average the probabilities with those of the same people in the last seconds."""
        width = self._options.smooth
        self._recent.append((seconds, person_id, probabilities))
        while seconds - self._recent[0][0] > width:
            self._recent.popleft()
        values = np.concatenate([each for _, _, each in self._recent])
        people = np.concatenate([each for _, each, _ in self._recent])
        times = np.concatenate([np.full(len(each), moment) for moment, each, _ in self._recent])
        return average_over_tracks(values, people, times, width)[len(values) - len(probabilities) :]
