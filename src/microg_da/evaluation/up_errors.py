"""Errors of the estimated up of people with a known true up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLIP = 90.0
"""The smallest error in degrees of a flip, an estimate that confuses up and down."""


@dataclass(frozen=True)
class AngleErrors:
    """Errors of one estimate of up.

    Attributes:
        median_error: in degrees; NaN without people.
        flips: the fraction of people with an error above :data:`FLIP`; NaN without people.
    """

    median_error: float
    flips: float

    @classmethod
    def of(cls, errors: np.ndarray) -> AngleErrors:
        """Compute the statistics of ``(N,)`` errors in degrees."""
        if not len(errors):
            return cls(float("nan"), float("nan"))
        return cls(float(np.median(errors)), float((errors > FLIP).mean()))


@dataclass(frozen=True)
class UpErrors:
    """Errors on one set of clips.

    Attributes:
        people: number of people.
        passes: passes of the detector per clip; NaN without clips.
        estimator: errors of the mode of the estimator's density.
        decided: errors after the choice among candidate rolls by the detector's confidence.
    """

    people: int
    passes: float
    estimator: AngleErrors
    decided: AngleErrors
