"""Top-1 accuracy of clips, for data with one label per clip, for comparison with clip-level papers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from microg_da.data.score_kinds import ScoreKind
from microg_da.evaluation.outcomes import Outcomes


class ClipAccuracy(NamedTuple):
    """The top-1 accuracy.

    Attributes:
        top1: the fraction of clips whose most probable class is correct.
        num_clips: the number of clips.
    """

    top1: float
    num_clips: int


def clip_accuracy(outcomes: Outcomes, kind: ScoreKind) -> ClipAccuracy | None:
    """Compute the top-1 accuracy over the clips (values of ``video_id``) of the ground truth.

    The scores of a clip are the mean probabilities of its detected people over all keyframes. A clip without detections
    is wrong; among classes with equal scores the first is predicted.

    Args:
        outcomes: detections aligned with the ground truth.
        kind: the kind of the scores.

    Returns:
        None if there are no clips, or if a clip has labels of several classes.
    """
    clip_of_keyframe, clips = outcomes.keyframes["video_id"].factorize()
    labels = np.unique(np.column_stack([clip_of_keyframe[outcomes.label_keyframe], outcomes.label_class]), axis=0)
    true_clip, true_class = labels.T
    if not len(labels) or len(np.unique(true_clip)) < len(labels):
        return None
    summed = _summed(clip_of_keyframe[outcomes.row_keyframe], _log_probability(outcomes.scores, kind), len(clips))
    # Without scores, or if all probabilities are 0, no class is predicted.
    right = (summed.argmax(axis=1)[true_clip] == true_class) & np.isfinite(summed.max(axis=1)[true_clip])
    return ClipAccuracy(float(right.mean()), len(labels))


def _log_probability(scores: np.ndarray, kind: ScoreKind) -> np.ndarray:
    """Return log-probabilities, which distinguish large logits whose probabilities round to 1; −inf without a score."""
    with np.errstate(divide="ignore"):
        values = -np.logaddexp(0, -scores) if kind == "logit" else np.log(np.clip(scores, 0, None))
    logarithms: np.ndarray = np.where(np.isfinite(scores), values, -np.inf)
    return logarithms


def _summed(clip: np.ndarray, logarithms: np.ndarray, num_clips: int) -> np.ndarray:
    """Return (V, C) logarithms of sums over the rows of each clip, which rank classes as means do."""
    summed = np.full((num_clips, logarithms.shape[1]), -np.inf)
    order = np.argsort(clip, kind="stable")
    if len(order):
        present, first = np.unique(clip[order], return_index=True)
        summed[present] = np.logaddexp.reduceat(logarithms[order], first, axis=0)
    return summed
