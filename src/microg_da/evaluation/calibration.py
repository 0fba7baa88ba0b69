"""Calibration: converts logits to probabilities with the decision at 0.5, monotonically per class, so that AP is kept.

All calibrations are ``p = σ(scale · (logit − threshold_c))``. They differ in the fit of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from microg_da.errors import unknown_name
from microg_da.evaluation.logistic import SharedFit, fit_shared, sigmoid

CALIBRATIONS = {
    "none": "no calibration",
    "temperature": "one scale and one bias for all classes (temperature scaling)",
    "vector": "one scale, and a bias per class that is shrunk to the common one (vector scaling)",
    "prior": "vector scaling, then class frequencies re-estimated on the unlabelled target by EM",
    "bbse": "vector scaling, then class frequencies re-estimated from the rate of predictions (BBSE)",
    "thresholds": "one scale, and thresholds per class for the best F1 on the fit set, shrunk for few examples",
}
BIAS_SPREAD = 2.0
PRIOR_STRENGTH = 10.0
THRESHOLD_STRENGTH = 10.0
EM_STEPS = 200
LARGEST_LOGIT = 20.0

# Thresholds are searched on temperature-scaled logits, where −1.5 means a probability of 0.18.
GRID = np.arange(-5.0, 3.01, 0.1)
LEVELS = np.arange(-3.0, 1.01, 0.2)
SLOPES = np.arange(0.0, 0.61, 0.1)
SMOOTHING = 0.4
WIGGLE = (-0.2, 0.0, 0.2)


@dataclass(frozen=True)
class Calibration:
    """``p = σ(scale · (logit − threshold_c))``.

    Attributes:
        method: a name in :data:`CALIBRATIONS`.
        scale: the same for all classes, positive.
        threshold: (C,) the logit at which each class becomes predicted.
    """

    method: str
    scale: float
    threshold: np.ndarray

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """(R, C) logits → (R, C) probabilities, strictly increasing for each class."""
        return sigmoid(self.margin(logits))

    def margin(self, logits: np.ndarray) -> np.ndarray:
        """Return (R, C) logits of the probabilities, adjusted so that distinct values do not round to equal ones."""
        z = self.scale * (logits - self.threshold)
        bent: np.ndarray = LARGEST_LOGIT * np.tanh(z / LARGEST_LOGIT)
        return bent


def fit_calibration(
    method: str, logits: np.ndarray, labels: np.ndarray, target_logits: np.ndarray | None = None
) -> Calibration:
    """Fit a calibration.

    Args:
        method: a name in :data:`CALIBRATIONS`.
        logits: (R, C) logits of the fit set; for a learned fusion, fused without the fold of each row.
        labels: (R, C) bool.
        target_logits: (R', C) logits to calibrate; only ``prior`` and ``bbse`` use them.

    Raises:
        InputError: for an unknown method.
    """
    if method not in CALIBRATIONS:
        raise unknown_name("calibration", method, CALIBRATIONS)
    if method == "none" or not labels.any():
        return Calibration(method, 1.0, np.zeros(labels.shape[1]))
    wide = method in ("temperature", "thresholds")
    pull = 1e6 if wide else 1 / (2 * BIAS_SPREAD**2 * labels.sum())
    fit = fit_shared(logits[None], labels, class_pull=pull)
    scale = max(float(fit.weights[0]), 1e-3)
    bias = fit.bias + (0 if wide else fit.class_bias) + np.zeros(labels.shape[1])
    if method == "thresholds":
        threshold = class_thresholds(scale * logits + fit.bias, labels) - fit.bias
    else:
        threshold = -bias
        if method in _PRIORS and target_logits is not None:
            threshold = threshold - _prior_shift(_PRIORS[method], fit, scale, logits, labels, target_logits)
    return Calibration(method, scale, threshold / scale)


def class_thresholds(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (C,) thresholds for F1, regularised for classes with few examples.

    All classes share a line ``level + slope · log(n_c + 1)`` in the number of positives n_c, since classes with fewer
    examples have lower scores; the line maximises mean F1. Each class is then shifted towards its best threshold by
    n_c / (n_c + 10). Classes without positives stay on the line.
    """
    positives = labels.sum(axis=0)
    known = positives > 0
    centre = np.log(np.median(positives[known]) + 1)
    f1 = _f1_at(z, labels, GRID)
    log_count = np.log(positives + 1) - centre

    def mean_f1(level: float, slope: float) -> float:
        line = level + slope * log_count
        return float(np.mean([_look_up(f1, line + wiggle)[known].mean() for wiggle in WIGGLE]))

    level, slope = max(((a, b) for a in LEVELS for b in SLOPES), key=lambda line: mean_f1(*line))
    line = level + slope * log_count
    own = GRID[_smooth(f1).argmax(axis=0)]
    trust = np.where(known, positives / (positives + THRESHOLD_STRENGTH), 0.0)
    threshold: np.ndarray = line + trust * (own - line)
    return threshold


def _f1_at(z: np.ndarray, labels: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(G, C) F1 of each class at each threshold of a grid."""
    hits = np.stack([((z >= t) & labels).sum(axis=0) for t in grid])
    guesses = np.stack([(z >= t).sum(axis=0) for t in grid])
    f1: np.ndarray = 2 * hits / np.maximum(guesses + labels.sum(axis=0), 1)
    return f1


def _look_up(f1: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    nearest = np.clip(np.rint((threshold - GRID[0]) / (GRID[1] - GRID[0])).astype(int), 0, len(GRID) - 1)
    found: np.ndarray = f1[nearest, np.arange(f1.shape[1])]
    return found


def _smooth(f1: np.ndarray) -> np.ndarray:
    distance = GRID[:, None] - GRID
    kernel = np.exp(-0.5 * (distance / SMOOTHING) ** 2)
    smoothed: np.ndarray = kernel @ f1 / kernel.sum(axis=1, keepdims=True)
    return smoothed


def _prior_shift(
    estimate: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    fit: SharedFit,
    scale: float,
    logits: np.ndarray,
    labels: np.ndarray,
    target_logits: np.ndarray,
) -> np.ndarray:
    """(C,) change of log odds from fit set to target, shrunk for classes with few positives."""
    positives = labels.sum(axis=0)
    source = (positives + 0.5) / (len(labels) + 1)
    z, target = (scale * values + fit.bias + fit.class_bias for values in (logits, target_logits))
    prior = np.clip(estimate(z, target, source), source / 5, np.minimum(source * 5, 0.95))
    shift = np.log(prior / (1 - prior)) - np.log(source / (1 - source))
    shrunk: np.ndarray = shift * positives / (positives + PRIOR_STRENGTH)
    return shrunk


def em_prior(_: np.ndarray, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(C,) class frequencies of unlabelled data by EM (Saerens, Latinne & Decaestecker, Neural Comput. 2002).

    Args:
        target: (R', C) calibrated logits of the unlabelled data.
        source: (C,) frequencies where the logits were calibrated.
    """
    prior = source.copy()
    for _step in range(EM_STEPS):
        odds = np.log(prior / (1 - prior)) - np.log(source / (1 - source))
        updated = np.clip(sigmoid(target + odds).mean(axis=0), 1e-6, 1 - 1e-6)
        if np.abs(updated - prior).max() < 1e-9:
            break
        prior = updated
    return prior


def bbse_prior(z: np.ndarray, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(C,) class frequencies of unlabelled data by black box shift estimation (Lipton, Wang & Smola, ICML 2018).

    With soft predictions, the mean probability is linear in the frequency, between the means of negatives and positives
    on the fit set. If both means are nearly equal, the source frequency is kept.

    Args:
        z: (R, C) calibrated logits of the fit set.
        target: (R', C) those of the unlabelled data.
        source: (C,) frequencies of the fit set.
    """
    p, q = sigmoid(z), sigmoid(target).mean(axis=0)
    # With calibrated probabilities, p is the expected fraction of a positive in a row.
    yes = (p * p).sum(axis=0) / p.sum(axis=0)
    no = (p * (1 - p)).sum(axis=0) / (1 - p).sum(axis=0)
    separable = yes - no > 0.05
    return np.where(separable, (q - no) / np.where(separable, yes - no, 1.0), source)


_PRIORS = {"prior": em_prior, "bbse": bbse_prior}
