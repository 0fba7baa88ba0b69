"""Fusion of the logits of several models: plain mean, learned weights, or learned weights with changes per class.

Parameters are fitted on a labelled fit set, with cross-validation whose folds share no source video.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from microg_da.errors import InputError, unknown_name
from microg_da.evaluation.logistic import fit_deviations, fit_shared, sigmoid

METHODS = {
    "mean": "mean of the logits, without fitted parameters",
    "weighted": "mean of the probabilities with one learned weight per model",
    "stack": "weighted, plus deviations of weights for each class if cross-validation finds an improvement",
}
FOLDS = 5
BALANCE = 0.5
EQUAL_SHARE = 0.3
WEIGHT_PULLS = (0.01, 0.03, 0.1, 1.0)
CLASS_PULLS = (1.0, 10.0, 100.0, np.inf)
TINY = 1e-12


@dataclass(frozen=True)
class Fusion:
    """The fusion of M models.

    Attributes:
        method: a name in :data:`METHODS`.
        weights: (M,) non-negative, summing to 1.
        deviations: (M, C) deviations of the weights for each class; None without deviations.
        chosen: the regularisation strengths chosen by cross-validation.
    """

    method: str
    weights: np.ndarray
    deviations: np.ndarray | None = None
    chosen: dict[str, float] = field(default_factory=dict)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """(M, R, C) logits → (R, C) fused logits."""
        fused = np.tensordot(self.weights, logits, 1) if self.method == "mean" else combine(self.weights, logits)
        return fused if self.deviations is None else fused + np.einsum("mc,mrc->rc", self.deviations, logits)


def combine(weights: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The weighted mean of M models' probabilities, (R, C), as a logit.

    A fraction of the weight, :data:`EQUAL_SHARE`, is distributed equally. A model with a fitted weight of 0 still ranks
    boxes for which the others have very low scores, which improves AUROC and hardly changes average precision.
    """
    share = (1 - EQUAL_SHARE) * weights + EQUAL_SHARE / len(weights)
    yes = -np.logaddexp(0, -logits)
    no = yes - logits
    log_odds: np.ndarray = _log_mean(share, yes) - _log_mean(share, no)
    return log_odds


def _log_mean(share: np.ndarray, logs: np.ndarray) -> np.ndarray:
    top = logs.max(axis=0)
    means: np.ndarray = top + np.log(np.tensordot(share, np.exp(logs - top), 1))
    return means


def fit_fusion(method: str, logits: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Fusion:
    """Fit a fusion.

    Args:
        method: a name in :data:`METHODS`.
        logits: (M, R, C) logits of the fit set.
        labels: (R, C) bool.
        folds: (R,) fold of each row, see :func:`grouped_folds`.

    Raises:
        InputError: for an unknown method, or a fit set without positives.
    """
    if method not in METHODS:
        raise unknown_name("fusion method", method, METHODS)
    equal = np.full(len(logits), 1 / len(logits))
    if method == "mean":
        return Fusion(method, equal)
    if not labels.any():
        raise InputError("the fit set has no detection of a labelled box, so that nothing can be fitted")
    pull = WEIGHT_PULLS[0]
    if len(logits) > 1:
        pull = min(WEIGHT_PULLS, key=lambda value: _held_out_loss(logits, labels, folds, {"weight_pull": value}))
    chosen = {"weight_pull": pull}
    if method == "stack":
        options = ({**chosen, "class_pull": value} for value in CLASS_PULLS)
        chosen = min(options, key=lambda value: _held_out_loss(logits, labels, folds, value))
    return _learn(method, logits, labels, chosen)


def cross_fused(fusion: Fusion, logits: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(R, C) fused logits of the fit set, each row with a fusion fitted without its fold, at equal regularisation."""
    if fusion.method == "mean":
        return fusion(logits)
    return _cross_fused(logits, labels, folds, fusion.chosen)


def _cross_fused(logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, chosen: dict[str, float]) -> np.ndarray:
    fused = np.zeros(labels.shape)
    for fold in np.unique(folds):
        out = folds == fold
        learn = ~out if labels[~out].any() else np.ones_like(out)
        fused[out] = _learn("stack", logits[:, learn], labels[learn], chosen)(logits[:, out])
    return fused


def _learn(method: str, logits: np.ndarray, labels: np.ndarray, chosen: dict[str, float]) -> Fusion:
    weights = fit_shared(logits, labels, balance=BALANCE, pull=chosen["weight_pull"]).weights
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(logits), 1 / len(logits))
    deviations = None
    if np.isfinite(chosen.get("class_pull", np.inf)):
        fused = combine(weights, logits)
        common = fit_shared(fused[None], labels)
        offset = common.weights[0] * fused + common.bias + common.class_bias
        deviations = fit_deviations(logits, labels, offset, chosen["class_pull"])
    return Fusion(method, weights, deviations, chosen)


def grouped_folds(groups: np.ndarray, num_folds: int = FOLDS) -> np.ndarray:
    """Return (R,) folds of about equal size that do not divide groups: largest group first, into the smallest fold."""
    names, index, sizes = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    fold = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(num_folds)
    for group in np.argsort(-sizes, kind="stable"):
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[index]


def _held_out_loss(logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, chosen: dict[str, float]) -> float:
    """Balanced cross-entropy of held-out rows, after one temperature and one bias per class are fitted to them.

    This makes fusions with different scales comparable.
    """
    fused = _cross_fused(logits, labels, folds, chosen)
    fit = fit_shared(fused[None], labels, balance=BALANCE)
    p = np.clip(sigmoid(fit.weights[0] * fused + fit.bias + fit.class_bias), TINY, 1 - TINY)
    positives = labels.sum(axis=0)
    say = np.where(positives > 0, np.maximum(positives, 1.0) ** -BALANCE, 0.0)
    return float(-(say * np.where(labels, np.log(p), np.log(1 - p))).sum())
