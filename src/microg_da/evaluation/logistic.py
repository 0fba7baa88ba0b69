"""Logistic regression for many classes that share their weights: the fit behind fusion and calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MAX_STEPS = 60
TOLERANCE = 1e-9


class SharedFit(NamedTuple):
    """``logit p = Σ_m weights_m x_m + bias + class_bias_c``."""

    weights: np.ndarray
    bias: float
    class_bias: np.ndarray


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−z)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def fit_shared(
    x: np.ndarray, y: np.ndarray, *, balance: float = 0.0, pull: float = 0.0, class_pull: float = 1e-4
) -> SharedFit:
    """Non-negative weights shared by all classes, and one bias per class, by a projected Newton method.

    The loss is cross-entropy in which class c with n_c positives has the weight n_c^−balance per box, so that 0 is the
    likelihood and 1 weights all classes equally. Classes without positives have weight 0 and no bias.

    Args:
        x: (M, R, C) logits.
        y: (R, C) bool.
        balance: see above, in [0, 1].
        pull: strength of the pull of the weights towards their mean.
        class_pull: strength of the pull of the class biases towards 0.
    """
    num_models, num_classes = len(x), x.shape[2]
    positives = y.sum(axis=0)
    say = np.where(positives > 0, np.maximum(positives, 1.0) ** -balance, 0.0)
    say = say / max((say * positives).sum(), 1.0) if say.any() else say
    features = np.concatenate([x, np.ones((1, *x.shape[1:]))])
    spread = np.eye(num_models + 1)
    spread[:num_models, :num_models] -= 1 / num_models
    spread[-1, -1] = 0.0
    ridge = 2 * pull * num_models * spread
    shared = np.append(np.full(num_models, 0.5 / num_models), 0.0)
    own = np.zeros(num_classes)
    loss = _loss(features, y, say, shared, own, ridge, class_pull)
    for _ in range(MAX_STEPS):
        p = sigmoid(np.tensordot(shared, features, 1) + own)
        residual, curvature = say * (p - y), say * p * (1 - p)
        gradient = np.tensordot(features, residual, ([1, 2], [0, 1])) + ridge @ shared
        own_gradient = residual.sum(axis=0) + 2 * class_pull * own
        free = np.append((shared[:-1] > 0) | (gradient[:-1] < 0), True)
        step, own_step = _newton_step(features, curvature, gradient, own_gradient, ridge, class_pull, free)
        size = 1.0
        while size > 1e-6:
            trial = shared + size * step
            trial[:-1] = np.maximum(trial[:-1], 0)
            trial_loss = _loss(features, y, say, trial, own + size * own_step, ridge, class_pull)
            if trial_loss < loss:
                break
            size /= 2
        else:
            break
        improvement, shared, own, loss = loss - trial_loss, trial, own + size * own_step, trial_loss
        if improvement < TOLERANCE:
            break
    return SharedFit(shared[:-1], float(shared[-1]), own)


def fit_deviations(x: np.ndarray, y: np.ndarray, offset: np.ndarray, pull: float) -> np.ndarray:
    """Return (M, C) deviations of each class from the shared weights, with a penalty; all classes at once.

    Args:
        x: (M, R, C) logits.
        y: (R, C) bool; classes without positives get no deviation.
        offset: (R, C) logits of the shared weights.
        pull: strength of the pull towards 0, per unit of log-likelihood.
    """
    features = np.moveaxis(x, 2, 0).transpose(0, 2, 1)  # (C, R, M)
    features = np.concatenate([features, np.ones((*features.shape[:2], 1))], axis=2)
    size = features.shape[2]
    ridge = 2 * pull * np.eye(size)
    ridge[-1, -1] = 1e-2
    parameters = np.zeros((len(features), size))
    learn = y.sum(axis=0) > 0
    for _ in range(MAX_STEPS):
        p = sigmoid(offset.T + (features @ parameters[:, :, None])[:, :, 0])
        gradient = ((p - y.T)[:, None, :] @ features)[:, 0] + parameters @ ridge
        curvature = (p * (1 - p))[:, :, None] * features
        hessian = curvature.transpose(0, 2, 1) @ features + ridge
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # Newton's method may overshoot for separable classes; a bounded step still converges.
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1), 1e-12))[:, None]
        parameters -= np.where(learn[:, None], step, 0)
        if np.abs(step[learn]).max(initial=0) < 1e-6:
            break
    return parameters[:, :-1].T


def _newton_step(
    features: np.ndarray,
    curvature: np.ndarray,
    gradient: np.ndarray,
    own_gradient: np.ndarray,
    ridge: np.ndarray,
    class_pull: float,
    free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the Newton system by eliminating the class biases, whose block is diagonal."""
    weighted = features * curvature
    cross = weighted.sum(axis=1)
    own = curvature.sum(axis=0) + 2 * class_pull
    flat = features.reshape(len(features), -1)
    hessian = weighted.reshape(len(features), -1) @ flat.T + ridge - (cross / own) @ cross.T
    hessian[np.diag_indices_from(hessian)] += 1e-10
    target = gradient - cross @ (own_gradient / own)
    step = np.zeros(len(gradient))
    step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], target[free])
    return step, -(own_gradient + cross.T @ step) / own


def _loss(
    features: np.ndarray,
    y: np.ndarray,
    say: np.ndarray,
    shared: np.ndarray,
    own: np.ndarray,
    ridge: np.ndarray,
    class_pull: float,
) -> float:
    z = np.tensordot(shared, features, 1) + own
    cross_entropy = np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))
    return float((say * cross_entropy).sum() + 0.5 * shared @ ridge @ shared + class_pull * (own**2).sum())
