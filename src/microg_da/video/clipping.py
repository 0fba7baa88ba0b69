"""Division of a video into clips of three seconds without cuts, and tracking of the people in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, PERSON_BOX_COLUMNS
from microg_da.files import replacing
from microg_da.video.box_sources import RATE
from microg_da.video.person_boxes import PersonDetector
from microg_da.video.reader import Frame, Video, at_rate
from microg_da.video.shots import with_shots
from microg_da.video.tracks import PersonTracker
from microg_da.video.writer import Mp4Writer

CLIP_FRAMES = 90
"""Three seconds at 30 frames per second, as in MicroG-4M."""

SHORT_SIDE = 480
QUALITY = 18

CLIP_COLUMNS = ["video_id", "start", "end", "kept", "reason", "persons", "looks", "height", "width"]
"""Columns of the pieces of a source video, both kept and dropped; ``start`` and ``end`` are in seconds."""

FIRST_STEP, LEAST_STEP, LARGEST_STEP = 5, 2, 12
"""Frames between two detections: at the beginning of a clip, for fast people, and for people who hardly move."""

MOVE = 0.1
"""The largest distance that a person may move between two detections, in diagonals of the box."""

LEAST_LOOKS = 3
"""The minimum number of detections of a track that counts as a person."""


@dataclass
class Clipped:
    """Result of clipping a source video.

    Attributes:
        clips: :data:`CLIP_COLUMNS`, in the order of the video.
        boxes: :data:`~microg_da.data.annotations.PERSON_BOX_COLUMNS` of the kept clips, in pixels of the clips.
    """

    clips: pd.DataFrame
    boxes: pd.DataFrame


def cut_into_clips(
    video: Video, detector: PersonDetector, folder: Path, advance: Callable[[float], None] = lambda _: None
) -> Clipped:
    """Write the clips of a video that show people and contain no cut.

    Each shot is divided into consecutive clips from its beginning. The rest of the shot is dropped and listed.

    Args:
        video: the source video.
        detector: the person detector.
        folder: the folder for ``<source>_<number>.mp4``.
        advance: called with the progress in seconds.
    """
    clips: list[dict[str, object]] = []
    boxes: list[pd.DataFrame] = []
    piece: _Piece | None = None

    def finish(reason: str) -> None:
        nonlocal piece
        if piece is not None:
            record, found = piece.finish(reason)
            clips.append(record)
            boxes.append(found)
        piece = None

    try:
        for number, frame, begins in with_shots(at_rate(video.frames(), RATE)):
            if begins:
                finish("cut")
            if piece is None:
                piece = _Piece(f"{video.video_id}_{len(clips) + 1:04d}", number, video.size, detector, folder)
            piece.add(frame)
            if piece.frames == CLIP_FRAMES:
                finish("")
            advance(frame.seconds)
        finish("end of video")
    finally:
        if piece is not None:
            piece.discard()
    empty = pd.DataFrame(columns=PERSON_BOX_COLUMNS)
    return Clipped(pd.DataFrame(clips, columns=CLIP_COLUMNS), pd.concat(boxes, ignore_index=True) if boxes else empty)


class _Piece:
    """A clip that is being written. Its file is created only if the clip is kept."""

    def __init__(self, name: str, start: int, size: tuple[int, int], detector: PersonDetector, folder: Path) -> None:
        scale = min(1.0, SHORT_SIDE / min(size))
        self.name = name
        self.frames = 0
        self.size = (_even(size[0] * scale), _even(size[1] * scale))
        self._start = start
        self._followed = ClipTracker(detector)
        self._stack = ExitStack()
        self._kept = False
        self._writer = self._stack.enter_context(self._open(folder / f"{name}.mp4"))

    def add(self, frame: Frame) -> None:
        """Add the next frame."""
        height, width = self.size
        image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        self._followed.add(image, last=self.frames == CLIP_FRAMES - 1)
        self._writer.add(image, self.frames / RATE)
        self.frames += 1

    def finish(self, reason: str) -> tuple[dict[str, object], pd.DataFrame]:
        """Finish the clip: return its record and the boxes of its people."""
        boxes = self._followed.table(self.name)
        reason = reason or ("" if len(boxes) else "no person")
        end = (self._start + self.frames) / RATE
        record = {
            "video_id": self.name,
            "start": round(self._start / RATE, 3),
            "end": round(end, 3),
            "kept": not reason,
            "reason": reason,
            "persons": boxes.person_id.nunique(),
            "looks": self._followed.looks,
            "height": self.size[0],
            "width": self.size[1],
        }
        if reason:
            self.discard()
            return record, boxes.iloc[:0]
        self._stack.close()
        return record, boxes

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._stack.__exit__(_Discarded, _Discarded(), None)

    def _open(self, path: Path) -> Mp4Writer:
        temporary = self._stack.enter_context(replacing(path))
        return Mp4Writer(temporary, self.size, RATE, QUALITY)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


class _Discarded(Exception):  # noqa: N818 - no error
    """Signals the writers of a clip to discard it."""


class ClipTracker:
    """Detects people in a clip, more often if they move faster, and joins detections into tracks.

    Args:
        detector: the person detector.
    """

    def __init__(self, detector: PersonDetector) -> None:
        self.looks = 0
        self._detector = detector
        self._tracker = PersonTracker(RATE)
        self._frame = 0
        self._due = 0
        self._looked_at = 0
        self._before: dict[int, np.ndarray] = {}
        self._rows: list[tuple[int, int, np.ndarray]] = []

    def add(self, image: np.ndarray, last: bool = False) -> None:
        """Add the next frame; detect people if a detection is due or the frame is the last."""
        if self._frame == self._due or last:
            self._look(image)
        else:
            self._tracker.skip()
        self._frame += 1

    def table(self, video_id: str) -> pd.DataFrame:
        """Return the boxes of people with enough detections, numbered from 1 in order of appearance."""
        rows = [(video_id, stamp, person, *box) for stamp, person, box in self._rows]
        table = pd.DataFrame(rows, columns=PERSON_BOX_COLUMNS)
        often = table.groupby("person_id").person_id.transform("size") >= LEAST_LOOKS
        table = table[often].reset_index(drop=True)
        table["person_id"] = pd.factorize(table.person_id)[0] + 1
        table[BOX] = table[BOX].astype(float).round(2)
        return table

    def _look(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        boxes = self._detector(image).boxes
        ids = self._tracker.update(boxes / np.array([width, height] * 2))
        now = dict(zip(ids.tolist(), boxes, strict=True))
        self._rows += [(self._frame + 1, person, box) for person, box in now.items()]
        self._due = self._frame + self._step(now)
        self._before, self._looked_at = now, self._frame
        self.looks += 1

    def _step(self, now: dict[int, np.ndarray]) -> int:
        """Return the number of frames to the next detection, from the distance that people moved since the last."""
        both = [(self._before[person], now[person]) for person in now if person in self._before]
        if not both or set(now) != set(self._before):
            return FIRST_STEP
        before, after = (np.stack(boxes) for boxes in zip(*both, strict=True))
        moved = np.abs(after - before).max(axis=1) / np.linalg.norm(after[:, 2:] - after[:, :2], axis=1)
        speed = float(moved.max()) / max(self._frame - self._looked_at, 1)
        return int(np.clip(MOVE / max(speed, 1e-6), LEAST_STEP, LARGEST_STEP))
