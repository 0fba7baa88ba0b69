"""Action tubes: a box of one person in each of some frames of a video, with one action."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX
from microg_da.data.score_kinds import ScoreKind
from microg_da.errors import InputError
from microg_da.evaluation.checks import checked_detections, checked_ground_truth, score_kind

TUBE = ["video_id", "action_id", "person_id"]
"""The columns that identify a tube."""


@dataclass(frozen=True)
class Tube:
    """One action of one person.

    Attributes:
        video_id: the video.
        action_id: the action.
        frames: ``(F,)`` stamps, ascending and distinct.
        boxes: ``(F, 4)`` in [0, 1].
        score: the mean over the frames; 0 for ground truth.
    """

    video_id: str
    action_id: int
    frames: np.ndarray
    boxes: np.ndarray
    score: float


def checked_tubes(table: pd.DataFrame, what: str, scores: ScoreKind | None = None) -> pd.DataFrame:
    """Return the checked rows of tubes.

    Args:
        table: one row for each frame of a tube.
        what: ``"detections"`` or ``"ground truth"``, for error messages.
        scores: the kind of the scores; None for a table without scores.

    Raises:
        InputError: for a missing column, an invalid value, or a tube with two boxes in one frame.
    """
    if "person_id" not in table:
        raise InputError(
            f"the {what} table has no column 'person_id', which tells the tubes of a video apart. "
            f"Detections without it are linked to tubes by link_tubes (evaluate --tubes linked)."
        )
    checked = checked_ground_truth(table) if scores is None else checked_detections(table, scores)
    checked = checked.assign(person_id=table["person_id"])
    twice = checked.duplicated([*TUBE, "frame_stamp"])
    if twice.any():
        row = checked[twice].iloc[0]
        raise InputError(
            f"the {what} table: person {row.person_id} of {row.video_id!r} has two boxes at frame_stamp "
            f"{row.frame_stamp} with action {row.action_id}. A tube has one box in a frame."
        )
    return checked


def tubes_of(table: pd.DataFrame) -> list[Tube]:
    """Return the tubes in a table of :func:`checked_tubes`, in order of first occurrence."""
    tubes = []
    for _, group in table.groupby(TUBE, sort=False):
        rows = group.sort_values("frame_stamp", kind="stable")
        video, action = rows["video_id"].iloc[0], rows["action_id"].iloc[0]
        score = float(rows["score"].mean()) if "score" in rows else 0.0
        tubes.append(Tube(str(video), int(action), rows["frame_stamp"].to_numpy(), rows[BOX].to_numpy(float), score))
    return tubes


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The IoU of boxes ``(..., 4)`` with boxes ``(..., 4)``, which broadcast."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = sides.clip(0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    ious: np.ndarray = common / (areas[0] + areas[1] - common)
    return ious


def link_tubes(
    detections: pd.DataFrame, *, scores: ScoreKind | None = None, overlap_weight: float = 1.0
) -> pd.DataFrame:
    """Join detections of single frames into tubes.

    For each video and action, dynamic programming finds the path through all frames on which the sum of the
    probabilities and of the IoUs of consecutive boxes is largest. Its boxes become a tube and are removed. This is
    repeated until a frame has no box left (Gkioxari & Malik, "Finding Action Tubes", CVPR 2015). The frames are those
    in which the action has a box. If people are tracked, their tracks are better tubes.

    Example:
        >>> import pandas as pd
        >>> from microg_da import link_tubes
        >>> rows = [
        ...     ("film_1", frame, left, 0.1, left + 0.3, 0.9, 12, score)
        ...     for frame in range(3) for left, score in ((0.1 + frame / 100, 0.9), (0.6, 0.4))
        ... ]
        >>> columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "score"]
        >>> tubes = link_tubes(pd.DataFrame(rows, columns=columns), scores="probability")
        >>> tubes.groupby("person_id").score.mean().round(2).tolist()
        [0.9, 0.4]

    Args:
        detections: with the columns of :data:`~microg_da.data.annotations.DETECTION_COLUMNS`.
        scores: ``"logit"`` or ``"probability"``; None for the kind that the table declares, else logits.
        overlap_weight: weight of an IoU relative to a probability.

    Returns:
        The rows that are part of a tube, with ``person_id``: the number of the tube among those of its video and
        action, from 0, in the order of their value.

    Raises:
        InputError: for a missing column or an invalid value.
    """
    kind = score_kind(detections, scores)
    table = checked_detections(detections, kind).reset_index(drop=True)
    values = table["score"].to_numpy(float)
    # Scores are converted to probabilities, which are comparable with IoUs in [0, 1].
    table["weight"] = values if kind == "probability" else 0.5 * (1 + np.tanh(values / 2))
    numbers = pd.Series(-1, index=table.index)
    for _, rows in table.groupby(["video_id", "action_id"], sort=False):
        frames = [part for _, part in rows.groupby("frame_stamp", sort=True)]
        for number, chosen in enumerate(_paths(frames, overlap_weight)):
            numbers[chosen] = number
    linked = table.drop(columns="weight").assign(person_id=numbers)
    linked = linked[linked.person_id >= 0].reset_index(drop=True)
    linked.attrs = dict(detections.attrs)
    return linked


def _paths(frames: list[pd.DataFrame], overlap_weight: float) -> Iterator[list[int]]:
    """Yield paths, best first, as the index of a row in each frame."""
    boxes = [frame[BOX].to_numpy(float) for frame in frames]
    weights = [frame["weight"].to_numpy(float) for frame in frames]
    rows = [frame.index.to_numpy() for frame in frames]
    overlaps = [overlap_weight * box_ious(before[:, None], after[None]) for before, after in pairwise(boxes)]
    while frames and all(len(each) for each in rows):
        path = _best_path(weights, overlaps)
        yield [int(each[place]) for each, place in zip(rows, path, strict=True)]
        rows = [np.delete(each, place) for each, place in zip(rows, path, strict=True)]
        weights = [np.delete(each, place) for each, place in zip(weights, path, strict=True)]
        overlaps = [
            np.delete(np.delete(each, before, axis=0), after, axis=1)
            for each, before, after in zip(overlaps, path, path[1:], strict=False)
        ]


def _best_path(weights: list[np.ndarray], overlaps: list[np.ndarray]) -> list[int]:
    """Return the index in each frame on the path with the largest sum (Viterbi)."""
    value = weights[0]
    came_from: list[np.ndarray] = []
    for weight, overlap in zip(weights[1:], overlaps, strict=True):
        sums = value[:, None] + overlap
        came_from.append(sums.argmax(axis=0))
        value = sums.max(axis=0) + weight
    path = [int(value.argmax())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    return path[::-1]
