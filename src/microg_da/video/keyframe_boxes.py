"""Detection of the people in the middle frame of every clip of a data set, and storage of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME, read_boxes
from microg_da.data.frames import FrameStore
from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.terminal import message_console, progress_bar
from microg_da.video.person_boxes import PersonDetector

DECIMALS = 4
_SAVE_EVERY = 200
"""Number of clips after which the table is written, so that interrupted work can continue from the table."""


@dataclass(frozen=True)
class FoundBoxes:
    """Result of :func:`find_keyframe_boxes`.

    Attributes:
        clips: number of clips with a box in the table.
        boxes: number of boxes in the table.
        looked_at: number of examined clips; the table already has boxes of the others.
        empty: clips without a detected person.
    """

    clips: int
    boxes: int
    looked_at: int
    empty: int


def find_keyframe_boxes(
    video_ids: Sequence[str], frames: FrameStore, detector: PersonDetector, out: str | Path, *, progress: bool = True
) -> FoundBoxes:
    """Detect people in the middle frame of each clip, and write ``video_id, frame, x1, y1, x2, y2``.

    An existing table keeps its boxes. Only clips without boxes are examined.

    Args:
        video_ids: the clips.
        frames: the frames of the clips.
        detector: the person detector.
        out: the table, a CSV file; frames count from 1, boxes are in [0, 1].
        progress: show a progress bar on standard error.

    Raises:
        InputError: if a clip cannot be read, or the table cannot be read or written. Boxes found so far are kept.
    """
    out = Path(out)
    known = read_boxes(out)[[*KEYFRAME, *BOX]] if out.is_file() else pd.DataFrame(columns=[*KEYFRAME, *BOX])
    todo = [clip for clip in video_ids if clip not in set(known.video_id)]
    tables, empty = [known], 0
    console = message_console()
    console.quiet = not progress
    with progress_bar(console) as bar:
        task = bar.add_task("detect people", total=len(todo))
        try:
            for number, clip in enumerate(todo, start=1):
                tables.append(_look(clip, frames, detector))
                empty += tables[-1].empty
                bar.advance(task)
                if number % _SAVE_EVERY == 0:
                    _write(tables, out)
        finally:
            _write(tables, out)
    boxes = read_boxes(out)
    return FoundBoxes(boxes.video_id.nunique(), len(boxes), len(todo), empty)


def _look(clip: str, frames: FrameStore, detector: PersonDetector) -> pd.DataFrame:
    number = frames.num_frames(clip) // 2
    (image,) = frames.read(clip, np.array([number]))
    height, width = image.shape[:2]
    boxes = (detector(image).boxes / np.array([width, height] * 2)).clip(0, 1).round(DECIMALS)
    boxes = boxes[(boxes[:, :2] < boxes[:, 2:]).all(axis=1)]
    found = pd.DataFrame(boxes, columns=BOX)
    found.insert(0, "video_id", clip)
    found.insert(1, "frame_stamp", number + 1)
    return found


def _write(tables: list[pd.DataFrame], out: Path) -> None:
    filled = [table for table in tables if len(table)] or tables[:1]
    try:
        with replacing(out) as temporary:
            pd.concat(filled).rename(columns={"frame_stamp": "frame"}).to_csv(temporary, index=False)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}. Choose a writable file.") from error
