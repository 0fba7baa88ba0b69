"""Prediction of videos and stills into a table of detections and an annotated video or picture.

A video is read twice. In the first pass, people are detected, tracked and scored around sampled keyframes. In the
second pass, the results are drawn. Memory does not grow with the length of a video. Finished videos are kept, so that
interrupted work continues with the next video.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, DETECTION_COLUMNS, write_detections
from microg_da.files import replacing, write_json
from microg_da.types import ClipKey
from microg_da.video.action_scorer import ActionScorer, Window, WindowBuffer
from microg_da.video.box_sources import RATE, BoxSource, FramePeople, join_frames
from microg_da.video.drawing import Label, draw_note, draw_people
from microg_da.video.reader import Video, at_rate
from microg_da.video.stills import Still, write_picture
from microg_da.video.tracks import Seen, Tracks, average_over_tracks, average_ups, collapses_as_faults
from microg_da.video.writer import GIF_SECONDS, GifWriter, Mp4Writer

DECIMALS = 4
SUMMARY = "video.json"

Advance = Callable[[float], None]
"""Callback for progress, in seconds of the video."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of :func:`predict_video`.

    Attributes:
        every: seconds from keyframe to keyframe.
        threshold: minimum probability of reported actions.
        smooth: seconds over which a person's scores are averaged; 0 for no smoothing.
        video_format: ``mp4``, ``gif`` or ``none``.
        top: number of actions drawn for a person.
    """

    every: float = 0.5
    threshold: float = 0.2
    smooth: float = 1.0
    video_format: str = "mp4"
    top: int = 3


@dataclass(frozen=True)
class Analysis:
    """Result of the analysis of a video.

    Attributes:
        people: :data:`~microg_da.video.tracks.PEOPLE_COLUMNS`, all people at every examined moment.
        scores: ``(K, C)`` probabilities of the ``K`` people at keyframes, smoothed within tracks.
        ups: ``(K,)`` estimated up of these people, smoothed within tracks: degrees clockwise from the top of the
            picture in [0, 360); NaN if the detector does not estimate it.
        keyframes: moments at which actions were predicted.
        seconds: length of the readable part of the video.
    """

    people: pd.DataFrame
    scores: np.ndarray
    ups: np.ndarray
    keyframes: int
    seconds: float


class PersonUp(TypedDict):
    """The estimated up of one person at one keyframe, in degrees clockwise from the top of the picture."""

    person_id: int
    seconds: float
    degrees: float


class VideoFacts(TypedDict):
    """Content of ``video.json``: the video and the numbers of detections."""

    video_id: str
    path: str
    still: bool
    size: list[int]
    frames_per_second: float | None
    seconds: float
    keyframes: int
    persons: int
    boxes: int
    detections: int
    ups: list[PersonUp]
    rendered: str | None
    faults: list[str]


def predict_video(
    video: Video,
    boxes: BoxSource,
    scorer: ActionScorer,
    options: PredictOptions,
    folder: Path,
    advance: Advance = lambda seconds: None,
) -> VideoFacts:
    """Predict one video into a folder: ``detections.csv``, ``people.csv``, the annotated video and ``video.json``.

    Args:
        video: the video or still.
        boxes: the source of the boxes of people.
        scorer: predicts the actions.
        options: the options of the prediction.
        folder: the folder for the results. ``video.json`` is written last and marks them as complete.
        advance: called with the progress. Each second of the video counts once for each pass.

    Returns:
        The content of ``video.json``.
    """
    tracking_faults: list[str] = []
    with collapses_as_faults(tracking_faults):
        found = analyse(video, boxes, scorer, options, advance)
    detections = detection_table(video.video_id, found, scorer, options.threshold)
    write_detections(detections, folder / "detections.csv", scores="probability")
    with replacing(folder / "people.csv") as temporary:
        _with_ups(found).round(DECIMALS).to_csv(temporary, index=False)
    rendered = render(video, found, scorer, options, folder, advance)
    facts: VideoFacts = {
        "video_id": video.video_id,
        "path": str(video.path),
        "still": isinstance(video, Still),
        "size": [*video.size],
        "frames_per_second": video.rate,
        "seconds": round(found.seconds, 3),
        "keyframes": found.keyframes,
        "persons": int(found.people.person_id.nunique()),
        "boxes": int(found.people.keyframe.sum()),
        "detections": len(detections),
        "ups": _ups(found),
        "rendered": rendered.name if rendered else None,
        "faults": [*video.faults, *tracking_faults],
    }
    write_json(folder / SUMMARY, facts)
    return facts


def analyse(
    video: Video, boxes: BoxSource, scorer: ActionScorer, options: PredictOptions, advance: Advance = lambda _: None
) -> Analysis:
    """Read a video once: detect people, and predict their actions at keyframes."""
    frames: list[FramePeople] = []
    scored = scorer.score(_windows(video, boxes, WindowBuffer(scorer), frames, advance))
    all_people = join_frames(frames)
    kept = boxes.settle(all_people)
    at_keyframe = kept[kept.keyframe]
    scored_rows = np.searchsorted(np.flatnonzero(all_people.keyframe), at_keyframe.index)
    tracks = (at_keyframe.person_id.to_numpy(), at_keyframe.seconds.to_numpy(), options.smooth)
    scores = average_over_tracks(scored.probabilities[scored_rows], *tracks)
    ups = average_ups(scored.ups[scored_rows], *tracks)
    keyframes = sum(frame_people.keyframe for frame_people in frames)
    return Analysis(kept.reset_index(drop=True), scores, ups, keyframes, video.last_seconds)


def _with_ups(found: Analysis) -> pd.DataFrame:
    """Return the people with a column ``up``, which is empty between keyframes and without an estimate."""
    ups = np.full(len(found.people), np.nan)
    ups[found.people.keyframe.to_numpy(bool)] = found.ups
    return found.people.assign(up=ups)


def _ups(found: Analysis) -> list[PersonUp]:
    people = found.people[found.people.keyframe]
    rows = zip(people.person_id.tolist(), people.seconds.tolist(), found.ups.tolist(), strict=True)
    return [
        {"person_id": person, "seconds": round(seconds, 3), "degrees": round(degrees, 1)}
        for person, seconds, degrees in rows
        if not math.isnan(degrees)
    ]


def _windows(
    video: Video, boxes: BoxSource, buffer: WindowBuffer, frames: list[FramePeople], advance: Advance
) -> Iterator[Window]:
    """Yield the windows around keyframes with people while the video is read; append people to ``frames``."""
    waiting: deque[tuple[int, np.ndarray]] = deque()  # the number of a keyframe, and its boxes

    def next_window() -> Window:
        keyframe, seen = waiting.popleft()
        return Window(buffer.window(keyframe), seen, ClipKey(video.video_id, keyframe + 1))

    for number, frame in at_rate(video.frames(), RATE):
        buffer.add(number, frame)
        frame_people = boxes.people_in(number, frame)
        if frame_people is not None:
            frames.append(frame_people)
            if frame_people.keyframe and len(frame_people.boxes):
                waiting.append((number, frame_people.boxes))
        while waiting and buffer.filled(waiting[0][0]):
            yield next_window()
        advance(frame.seconds)
    while waiting:
        yield next_window()


def detection_table(video_id: str, found: Analysis, scorer: ActionScorer, threshold: float) -> pd.DataFrame:
    """Return the actions at keyframes with a probability of at least ``threshold``, in AVA's format, in seconds."""
    people = found.people[found.people.keyframe].round(DECIMALS)
    row, column = np.nonzero(found.scores >= threshold)
    chosen = people.iloc[row]
    table = chosen[BOX].assign(
        video_id=video_id,
        frame_stamp=chosen.seconds.to_numpy(),
        action_id=np.array(scorer.taxonomy.ids, np.int64)[column],
        score=found.scores[row, column].round(DECIMALS),
    )
    return table[DETECTION_COLUMNS].reset_index(drop=True)


def render(
    video: Video,
    found: Analysis,
    scorer: ActionScorer,
    options: PredictOptions,
    folder: Path,
    advance: Advance = lambda _: None,
) -> Path | None:
    """Read a video again and draw the results; return the file, or None if no video is requested.

    A still is always written as a JPEG file.
    """
    if options.video_format == "none":
        return None
    if isinstance(video, Still):
        return _render_still(video, found, scorer, options, folder / f"{video.video_id}.jpg")
    path = folder / f"{video.video_id}.{options.video_format}"
    labels = _labels(found, scorer, options)
    tracks = Tracks(found.people, reach=options.every / 2 + 1 / RATE)
    with replacing(path) as temporary, _writer(temporary, video, options.video_format) as writer:
        for frame in video.frames():
            if options.video_format == "gif" and frame.seconds > GIF_SECONDS:
                break
            if writer.wants(frame.seconds):
                image = frame.image.copy()
                note = draw_note(image, f"{frame.seconds:.1f} s")
                people = [(seen.box, _label(seen, labels, found.ups)) for seen in tracks.at(frame.seconds)]
                draw_people(image, people, keep_free=[note])
                writer.add(image, frame.seconds)
            advance(found.seconds + frame.seconds)
    return path


def _label(seen: Seen, labels: list[tuple[tuple[str, int], ...]], ups: np.ndarray) -> Label:
    """Return the label of a person, with actions and up of the nearest keyframe."""
    if seen.row < 0:
        return Label(seen.person_id, (), seen.roll)
    return Label(seen.person_id, labels[seen.row], seen.roll, up=float(ups[seen.row]))


def _render_still(still: Still, found: Analysis, scorer: ActionScorer, options: PredictOptions, path: Path) -> Path:
    image = next(still.frames()).image.copy()
    labels = _labels(found, scorer, options)
    table = found.people
    columns = (table.person_id, labels, table.roll, table.score, found.ups)
    people = [(box, Label(*values)) for box, *values in zip(table[BOX].to_numpy(), *columns, strict=True)]
    draw_people(image, people)
    write_picture(image, path)
    return path


def _labels(found: Analysis, scorer: ActionScorer, options: PredictOptions) -> list[tuple[tuple[str, int], ...]]:
    """Return the actions that are drawn for each person at each keyframe."""
    best = np.argsort(-found.scores, axis=1, kind="stable")[:, : options.top]
    names = [name.split(" (")[0] for name in scorer.taxonomy.names]
    return [
        tuple((names[column], round(100 * row[column])) for column in columns if row[column] >= options.threshold)
        for row, columns in zip(found.scores, best, strict=True)
    ]


def _writer(path: Path, video: Video, video_format: str) -> Mp4Writer | GifWriter:
    return GifWriter(path) if video_format == "gif" else Mp4Writer(path, video.size, video.rate or RATE)
