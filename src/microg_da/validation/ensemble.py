"""Selection among candidates by the agreement of each candidate with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microg_da.errors import InputError


def ensv(candidates: Sequence[np.ndarray]) -> np.ndarray:
    """Ensemble-based validation: how well each candidate agrees with the mean of all; higher is better.

    The mean of the candidates' probabilities makes the labels: a class is positive where it is more probable than not.
    A candidate's score is its accuracy by these labels. The paper shows that choosing so never takes the worst of a
    pool whose ensemble is better than its worst member; it compares candidates only within one pool, so that scores
    of two pools mean nothing to each other.

    Multi-label form: the paper counts people whose likeliest class is the ensemble's. Here each class is counted by
    itself, and "no" to a rare class is nearly always right. So the accuracy is balanced, the mean of the share of
    positives and the share of negatives that are found, mean over the classes that the ensemble gives to some people
    and not to all. A class that it gives to no person says nothing; NaN where that is true of all classes.

    Hu et al., "Towards reliable model selection for unsupervised domain adaptation: An empirical study and a certified
    baseline", NeurIPS 2024 (Datasets and Benchmarks).

    Args:
        candidates: ``(N, C)`` probabilities of the same people in the same order, of each candidate.

    Returns:
        ``(M,)`` scores in [0, 1] of M candidates.

    Raises:
        InputError: if there is no candidate, or shapes differ.
    """
    shapes = {np.shape(candidate) for candidate in candidates}
    if len(shapes) != 1:
        raise InputError(f"ensv: expected candidates of one shape (people, classes), got {sorted(shapes) or 'none'}.")
    answers = np.stack([np.asarray(candidate, dtype=float) for candidate in candidates])
    labels = answers.mean(axis=0) > 0.5
    told_apart = labels.any(axis=0) & ~labels.all(axis=0)
    if not told_apart.any():
        return np.full(len(answers), np.nan)
    said, labels = answers[:, :, told_apart] > 0.5, labels[:, told_apart]
    found = (said & labels).sum(axis=1) / labels.sum(axis=0)
    denied = (~said & ~labels).sum(axis=1) / (~labels).sum(axis=0)
    score: np.ndarray = ((found + denied) / 2).mean(axis=1)
    return score
