"""Plans of the clips of a data set: frames, people and labels of each clip, without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, UP
from microg_da.data.dataset import Timing
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.frames import FrameStore
from microg_da.data.splits import Division
from microg_da.errors import InputError
from microg_da.types import SPLITS, Split


@dataclass(frozen=True)
class Person:
    """A person in a clip.

    Attributes:
        number: the ``person_id`` of the table.
        boxes: boxes ``(x1, y1, x2, y2)`` in [0, 1] by keyframe, an index of the clip's frames.
        actions: action ids by keyframe.
        ups: the original up in degrees by keyframe; 0 if the data set does not contain it.
    """

    number: int
    boxes: dict[int, tuple[float, float, float, float]]
    actions: dict[int, tuple[int, ...]]
    ups: dict[int, float]


@dataclass(frozen=True)
class ClipPlan:
    """A clip to make.

    Attributes:
        name: ``video_id`` in the made data set.
        video_id: the original video.
        source_video: the source video of the original video.
        split: train, val or test.
        first: first frame in the original video, counted from 0.
        count: number of frames.
        size: height and width of the video's frames.
        fps: frames per second.
        people: the people of the clip, at least one.
    """

    name: str
    video_id: str
    source_video: str
    split: Split
    first: int
    count: int
    size: tuple[int, int]
    fps: float
    people: tuple[Person, ...]

    @property
    def keyframes(self) -> list[int]:
        """The ascending keyframes, counted from 0."""
        return sorted({frame for person in self.people for frame in person.boxes})

    @property
    def middle(self) -> int:
        """The keyframe at which motions start from their origin."""
        keyframes = self.keyframes
        return keyframes[len(keyframes) // 2]


def plan_clips(
    files: DatasetFiles, division: Division, frames: FrameStore, timing: Timing, max_frames: int, skip: bool
) -> tuple[list[ClipPlan], dict[str, str]]:
    """Return all clips of a data set, sorted by name, and the unreadable videos with the reason.

    Args:
        files: the tables.
        division: the split of each video; videos without a split are ignored.
        frames: the frames of the videos.
        timing: converts a ``frame_stamp`` to a frame number.
        max_frames: maximum length; a longer video becomes one clip for each keyframe.
        skip: whether to skip unreadable videos instead of raising an error.

    Raises:
        InputError: if a video cannot be read, or there is no clip.
    """
    splits, sources = division.splits, files.sources
    table = files.annotations[files.annotations.video_id.isin(splits.index)]
    faults = frames.missing(sorted(set(table.video_id)))
    plans: list[ClipPlan] = []
    for video, rows in table.groupby("video_id"):
        name = str(video)
        try:
            if name in faults:
                raise InputError(faults[name])
            plans += _plan_video(name, rows, str(sources[name]), splits[name], frames, timing, max_frames)
        except InputError as error:
            if not skip:
                raise
            faults[name] = str(error)
    if not plans:
        raise InputError(
            f"{files.root}: no clip can be made. First error: {next(iter(faults.values()), 'the data set is empty')}"
        )
    return plans, faults


def group_by_split(plans: Sequence[ClipPlan]) -> dict[Split, list[ClipPlan]]:
    """Return the clips of each split, in order."""
    return {split: [plan for plan in plans if plan.split == split] for split in SPLITS}


def _plan_video(
    video: str,
    rows: pd.DataFrame,
    source_video: str,
    split: Split,
    frames: FrameStore,
    timing: Timing,
    max_frames: int,
) -> Iterator[ClipPlan]:
    length, size = frames.num_frames(video), frames.frame_size(video)
    fps = timing.fps or frames.fps(video)
    if fps is None:
        raise InputError(f"{video}: JPEG files have no frame rate. Add it to the SOURCE, as in …?fps=25")
    numbers = {stamp: timing.frame(frames, video, stamp) for stamp in rows.frame_stamp.unique().tolist()}
    rows = rows.assign(frame=rows.frame_stamp.map(numbers))
    if length <= max_frames:
        yield ClipPlan(video, video, source_video, split, 0, length, size, fps, _people(rows, 0))
        return
    for keyframe, here in rows.groupby("frame"):
        number = int(str(keyframe))
        first = int(np.clip(number - max_frames // 2, 0, length - max_frames))
        name = f"{video}_{number + 1:06d}"
        yield ClipPlan(name, video, source_video, split, first, max_frames, size, fps, _people(here, first))


def _people(rows: pd.DataFrame, first: int) -> tuple[Person, ...]:
    """Return the people of a clip; two boxes with the same number at one keyframe are two people."""
    people: list[Person] = []
    same_box = rows.groupby(["frame", *BOX], sort=False).ngroup()
    rank = same_box.groupby([rows.frame, rows.person_id]).rank("dense").astype(int)
    for (number, _), of_person in rows.groupby([rows.person_id, rank], sort=False):
        person = Person(int(str(number)), {}, {}, {})
        for frame, here in of_person.groupby("frame"):
            place = int(str(frame)) - first
            box = here[BOX].to_numpy(float)[0].tolist()
            person.boxes[place] = (box[0], box[1], box[2], box[3])
            person.actions[place] = tuple(here.action_id.tolist())
            person.ups[place] = float(here[UP].iloc[0]) if UP in here and np.isfinite(here[UP].iloc[0]) else 0.0
        people.append(person)
    return tuple(people)
