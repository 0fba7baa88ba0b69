"""Differences between two methods that were run with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PairedDifference(NamedTuple):
    """How much one method gains over another, seed by seed.

    Attributes:
        mean: of the differences.
        half_width: of the 95 % interval by Student's t; NaN with one seed.
        p: of the two-sided paired t-test; NaN with one seed, or if all differences are 0.
    """

    mean: float
    half_width: float
    p: float


def paired_difference(method: Sequence[float], control: Sequence[float]) -> PairedDifference:
    """The paired t-test of two methods.

    Args:
        method: scores, one for each seed.
        control: those of the same seeds in the same order.
    """
    from scipy import stats

    differences = np.asarray(method, float) - np.asarray(control, float)
    count = len(differences)
    if count < 2:
        return PairedDifference(float(differences.mean()) if count else math.nan, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    mean = float(differences.mean())
    if error == 0:
        return PairedDifference(mean, 0.0, math.nan if mean == 0 else 0.0)
    half_width = float(stats.t.ppf(0.975, count - 1)) * error
    return PairedDifference(mean, half_width, float(2 * stats.t.sf(abs(mean) / error, count - 1)))
