"""One number per class: average precision, F1, recall, AUROC, each for all classes at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

TieOrder = Literal["file", "best", "worst"]


def average_precision(
    scores: np.ndarray, matched: np.ndarray, support: np.ndarray, ties: TieOrder = "file"
) -> np.ndarray:
    """PASCAL VOC's all-points average precision (Everingham et al., IJCV 2015).

    Args:
        scores: (R, C), −inf where there is no detection.
        matched: (R, C) bool, true positives.
        support: (C,) number of ground-truth boxes.
        ties: order of equal scores: ``"file"`` keeps the order of the rows; ``"best"`` and ``"worst"`` put true
            positives first or last, which bounds the result of any order.

    Returns:
        (C,) average precision; NaN for classes without ground truth.
    """
    if ties == "file":
        order = np.argsort(-scores, axis=0, kind="stable")
    else:
        order = np.lexsort((matched if ties == "worst" else ~matched, -scores), axis=0)
    hits = np.take_along_axis(matched, order, axis=0)
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return divide((envelope * hits).sum(axis=0), support)


def f1_and_recall(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (C,) F1 and (C,) recall of (R, C) bool predictions; 0 for classes without predictions and labels."""
    hits = (predicted & truth).sum(axis=0)
    positives, guesses = truth.sum(axis=0), predicted.sum(axis=0)
    f1 = divide_or_zero(2 * hits, positives + guesses)
    return f1, divide_or_zero(hits, positives)


def auroc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return (C,) area under the ROC curve, with half weight of ties; NaN without positives or negatives."""
    ranks = pd.DataFrame(scores).rank().to_numpy() if len(scores) else scores
    positives = truth.sum(axis=0)
    negatives = len(truth) - positives
    wins = (ranks * truth).sum(axis=0) - positives * (positives + 1) / 2
    return divide(wins, positives * negatives)


def count_ties(scores: np.ndarray) -> int:
    """Count the detections with exactly the score of another detection of the same class."""
    ordered = np.sort(scores, axis=0)
    equal = (ordered[1:] == ordered[:-1]) & np.isfinite(ordered[1:])
    padding = np.zeros((1, scores.shape[1]), dtype=bool)
    return int((np.concatenate([equal, padding]) | np.concatenate([padding, equal])).sum())


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient ``a / b``; NaN where ``b`` is not positive."""
    quotient: np.ndarray = np.divide(a, b, out=np.full(np.shape(a), np.nan), where=np.asarray(b) > 0)
    return quotient


def divide_or_zero(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient ``a / b``; 0 where ``b`` is not positive."""
    quotient: np.ndarray = np.nan_to_num(divide(a, b))
    return quotient
