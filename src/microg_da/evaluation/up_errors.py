"""Errors of the estimated up of people, where the true up is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLIP = 90.0
"""Degrees. An estimate that is farther off than this is a flip: it takes down for up."""


@dataclass(frozen=True)
class AngleErrors:
    """Errors of one estimate of up.

    Attributes:
        median_error: in degrees; NaN without people.
        flips: the share of people whose error is above :data:`FLIP`; NaN without people.
    """

    median_error: float
    flips: float

    @classmethod
    def of(cls, errors: np.ndarray) -> AngleErrors:
        """Of ``(N,)`` errors in degrees."""
        if not len(errors):
            return cls(float("nan"), float("nan"))
        return cls(float(np.median(errors)), float((errors > FLIP).mean()))


@dataclass(frozen=True)
class UpErrors:
    """Errors on one set of clips.

    Attributes:
        people: how many people.
        passes: of the detector for each clip; NaN without clips.
        estimator: of the mode of the estimator's density alone.
        decided: after the detector's confidence has decided between the likely rolls.
    """

    people: int
    passes: float
    estimator: AngleErrors
    decided: AngleErrors
