"""Selection among candidates by the agreement of each candidate with the ensemble of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microg_da.errors import InputError


def ensv(candidates: Sequence[np.ndarray]) -> np.ndarray:
    """Ensemble-based validation: score each candidate by its agreement with the mean of all; higher is better.

    The mean of the candidates' probabilities gives labels: a class is positive if its mean probability is above 0.5.
    The score of a candidate is its accuracy for these labels. The paper shows that the selected candidate is never the
    worst of a pool whose ensemble is better than the worst candidate. Scores are comparable within one pool only.

    Multi-label form: the paper counts people whose likeliest class is that of the ensemble. Here each class is counted
    separately. Because most people do not have a rare class, the accuracy is balanced: the mean of the true positive
    rate and the true negative rate. It is averaged over the classes that the ensemble predicts for some people but not
    for all, and is NaN if there is no such class.

    Hu et al., "Towards reliable model selection for unsupervised domain adaptation: An empirical study and a certified
    baseline", NeurIPS 2024 (Datasets and Benchmarks).

    Args:
        candidates: for each candidate ``(N, C)`` probabilities of the same people in the same order.

    Returns:
        Scores ``(M,)`` in [0, 1] of M candidates.

    Raises:
        InputError: if there is no candidate, or the shapes differ.
    """
    shapes = {np.shape(candidate) for candidate in candidates}
    if len(shapes) != 1:
        raise InputError(
            f"ensv: expected candidates with the same shape (people, classes), got {sorted(shapes) or 'none'}."
        )
    answers = np.stack([np.asarray(candidate, dtype=float) for candidate in candidates])
    labels = answers.mean(axis=0) > 0.5
    told_apart = labels.any(axis=0) & ~labels.all(axis=0)
    if not told_apart.any():
        return np.full(len(answers), np.nan)
    positive, labels = answers[:, :, told_apart] > 0.5, labels[:, told_apart]
    found = (positive & labels).sum(axis=1) / labels.sum(axis=0)
    denied = (~positive & ~labels).sum(axis=1) / (~labels).sum(axis=0)
    score: np.ndarray = ((found + denied) / 2).mean(axis=1)
    return score
