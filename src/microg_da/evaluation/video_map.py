"""Video mAP: action tubes instead of boxes of single frames.

A tube is one action of one person: a box in each of some frames of a video. Papers on JHMDB and UCF101-24 report
the mAP of tubes at spatio-temporal IoUs of 0.2, 0.5 and 0.5:0.95 (Gkioxari & Malik, "Finding Action Tubes", CVPR 2015;
Weinzaepfel et al., ICCV 2015; Kalogeiton et al., "Action Tubelet Detector", ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.score_kinds import ScoreKind
from microg_da.errors import InputError
from microg_da.evaluation.checks import score_kind
from microg_da.evaluation.classwise import average_precision
from microg_da.evaluation.tubes import Tube, box_ious, checked_tubes, tubes_of
from microg_da.taxonomy import Taxonomy, get_taxonomy

THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
"""The IoUs of 0.5:0.95."""


@dataclass(frozen=True)
class VideoScores:
    """Scores of a set of tubes; fractions, not percent.

    Attributes:
        map_20: mAP at an IoU of 0.2, over classes with ground truth.
        map_50: at 0.5.
        map_75: at 0.75.
        map_50_95: the mean of the mAPs at 0.5, 0.55, … 0.95.
        num_videos: videos with ground truth.
        num_tubes: tubes of the ground truth.
        num_detections: tubes that were scored.
        num_classes_with_ground_truth: number of classes in mAP.
        per_class: one row per class: ``action_id, name, ap_20, ap_50, ap_75, ap_50_95, support``; NaN without tubes.
    """

    map_20: float
    map_50: float
    map_75: float
    map_50_95: float
    num_videos: int
    num_tubes: int
    num_detections: int
    num_classes_with_ground_truth: int
    per_class: pd.DataFrame

    def as_dict(self, per_class: bool = True) -> dict[str, object]:
        """Return plain numbers; ``per_class`` as a list of dicts, or omitted."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "per_class"}
        return {**values, "per_class": self.per_class.to_dict("records")} if per_class else values


def evaluate_tubes(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    taxonomy: str | Path | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
) -> VideoScores:
    """Compute the video mAP of tubes.

    The tubes of a class are ranked by score, equal scores in the order of the table. Each is compared with the
    unmatched ground-truth tube of its class and video with the largest overlap, and is correct if their IoU reaches the
    threshold. Average precision is the all-points version of PASCAL VOC, as in :func:`microg_da.evaluate`.

    Example:
        >>> import pandas as pd
        >>> from microg_da import evaluate_tubes
        >>> box = {"x1": 0.1, "y1": 0.1, "x2": 0.5, "y2": 0.9}
        >>> person = {"video_id": "film_1", **box, "action_id": 12, "person_id": 0}
        >>> truth = pd.DataFrame([{**person, "frame_stamp": frame} for frame in range(4)])
        >>> found = truth[truth.frame_stamp > 0].assign(score=0.9)
        >>> scores = evaluate_tubes(found, truth)
        >>> scores.map_50, scores.map_50_95  # three of four frames: an IoU of 0.75
        (1.0, 0.6)

    Args:
        detections: one row for each frame of a tube: ``video_id, frame_stamp, x1, y1, x2, y2, action_id, score`` and
            ``person_id``, which identifies the tubes of a video. The score of a tube is the mean over its frames.
            :func:`link_tubes` makes such a table of detections without persons.
        ground_truth: the same without scores; a person's action is one tube, also if the person is hidden for a while.
        taxonomy: the classes to score.
        scores: ``"logit"`` or ``"probability"``; None for the kind that the detections declare, else logits. The order
            of tubes is that of their mean raw scores.

    Raises:
        InputError: for a missing column, an impossible value, a person with two boxes in one frame, or tables without a
            common video.
    """
    classes = get_taxonomy(taxonomy)
    detected = checked_tubes(detections, "detections", score_kind(detections, scores))
    true = checked_tubes(ground_truth, "ground truth")
    if len(detected) and len(true) and not set(detected.video_id) & set(true.video_id):
        raise InputError(
            f"the tables have no common video: detections contain e.g. {detected.video_id.iloc[0]!r}, the ground truth "
            f"{true.video_id.iloc[0]!r}."
        )
    truth = tubes_of(true[true.action_id.isin(classes.ids)])
    found = tubes_of(detected[detected.action_id.isin(classes.ids)])
    thresholds = (0.2, *THRESHOLDS)
    table = np.full((len(classes), len(thresholds)), np.nan)
    support = np.zeros(len(classes), np.int64)
    for column, action in enumerate(classes.ids):
        wanted = [tube for tube in truth if tube.action_id == action]
        support[column] = len(wanted)
        table[column] = _class_precision([tube for tube in found if tube.action_id == action], wanted, thresholds)
    return _summary(table, support, classes, truth, len(found))


def tube_iou(first: Tube, second: Tube) -> float:
    """Spatio-temporal IoU of two tubes, in [0, 1].

    This is the IoU of their sets of frames times the mean IoU of their boxes in common frames.
    """
    common, of_first, of_second = np.intersect1d(first.frames, second.frames, assume_unique=True, return_indices=True)
    if not len(common):
        return 0.0
    union = len(first.frames) + len(second.frames) - len(common)
    spatial = float(box_ious(first.boxes[of_first], second.boxes[of_second]).mean())
    return spatial * len(common) / union


def _class_precision(found: Sequence[Tube], wanted: Sequence[Tube], thresholds: Sequence[float]) -> np.ndarray:
    """``(len(thresholds),)`` average precision of the tubes of one class; NaN without ground truth."""
    order = np.argsort([-tube.score for tube in found], kind="stable")
    ranked = [found[place] for place in order]
    ious = np.array([[tube_iou(a, b) if a.video_id == b.video_id else -1.0 for b in wanted] for a in ranked])
    ious = ious.reshape(len(ranked), len(wanted))
    matched = np.stack([_matched(ious, threshold) for threshold in thresholds], axis=1)
    scores = np.broadcast_to(np.array([tube.score for tube in ranked])[:, None], matched.shape)
    return average_precision(scores, matched, np.full(len(thresholds), len(wanted)))


def _matched(ious: np.ndarray, threshold: float) -> np.ndarray:
    """Return ``(R,)`` bool: the ranked tubes that match a tube which no earlier tube has matched."""
    free = ious.copy()
    matched = np.zeros(len(ious), dtype=bool)
    if not ious.shape[1]:
        return matched
    for row in range(len(ious)):
        best = int(free[row].argmax())
        if free[row, best] >= threshold:
            matched[row] = True
            free[:, best] = -1.0
    return matched


def _summary(
    table: np.ndarray, support: np.ndarray, classes: Taxonomy, truth: Sequence[Tube], num_detections: int
) -> VideoScores:
    known = support > 0
    columns = {
        "ap_20": table[:, 0],
        "ap_50": table[:, 1],
        "ap_75": table[:, 1 + THRESHOLDS.index(0.75)],
        "ap_50_95": table[:, 1:].mean(axis=1),
    }
    means = {name: float(values[known].mean()) if known.any() else float("nan") for name, values in columns.items()}
    return VideoScores(
        map_20=means["ap_20"],
        map_50=means["ap_50"],
        map_75=means["ap_75"],
        map_50_95=means["ap_50_95"],
        num_videos=len({tube.video_id for tube in truth}),
        num_tubes=len(truth),
        num_detections=num_detections,
        num_classes_with_ground_truth=int(known.sum()),
        per_class=pd.DataFrame({"action_id": classes.ids, "name": classes.names, **columns, "support": support}),
    )
