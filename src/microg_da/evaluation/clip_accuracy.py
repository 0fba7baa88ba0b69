"""Top-1 accuracy of clips, for data with one label a clip, comparable with the figures of clip-level papers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from microg_da.data.score_kinds import ScoreKind
from microg_da.evaluation.outcomes import Outcomes


class ClipAccuracy(NamedTuple):
    """How many clips are named right.

    Attributes:
        top1: the share of clips whose likeliest class is the true one.
        num_clips: how many clips there are.
    """

    top1: float
    num_clips: int


def clip_accuracy(outcomes: Outcomes, kind: ScoreKind) -> ClipAccuracy | None:
    """Top-1 accuracy over the clips of the ground truth, a clip being a ``video_id``.

    The scores of a clip are the mean probabilities of its detected people, over all its keyframes. A clip without
    detections counts as wrong; of two classes with the same score the first counts.

    Args:
        outcomes: detections next to the ground truth.
        kind: what the scores are.

    Returns:
        None if there is no clip, or one of them has labels of several classes.
    """
    clip_of_keyframe, clips = outcomes.keyframes["video_id"].factorize()
    labels = np.unique(np.column_stack([clip_of_keyframe[outcomes.label_keyframe], outcomes.label_class]), axis=0)
    true_clip, true_class = labels.T
    if not len(labels) or len(np.unique(true_clip)) < len(labels):
        return None
    summed = _summed(clip_of_keyframe[outcomes.row_keyframe], _log_probability(outcomes.scores, kind), len(clips))
    # Nothing said, or only that every class is impossible, names no class.
    right = (summed.argmax(axis=1)[true_clip] == true_class) & np.isfinite(summed.max(axis=1)[true_clip])
    return ClipAccuracy(float(right.mean()), len(labels))


def _log_probability(scores: np.ndarray, kind: ScoreKind) -> np.ndarray:
    """Logarithms tell large logits apart whose probabilities are rounded to 1; −inf where nothing was said."""
    with np.errstate(divide="ignore"):
        values = -np.logaddexp(0, -scores) if kind == "logit" else np.log(np.clip(scores, 0, None))
    logarithms: np.ndarray = np.where(np.isfinite(scores), values, -np.inf)
    return logarithms


def _summed(clip: np.ndarray, logarithms: np.ndarray, num_clips: int) -> np.ndarray:
    """(V, C) logarithm of the sum over the rows of each clip, which orders the classes as their mean does."""
    summed = np.full((num_clips, logarithms.shape[1]), -np.inf)
    order = np.argsort(clip, kind="stable")
    if len(order):
        present, first = np.unique(clip[order], return_index=True)
        summed[present] = np.logaddexp.reduceat(logarithms[order], first, axis=0)
    return summed
