"""How sure a run's figures are: intervals over the source videos of its target test set."""

from __future__ import annotations

from microg_da.evaluation.intervals import FEWEST_VIDEOS, RESAMPLES, Interval, Intervals, paired_intervals
from microg_da.reporting.target_scores import TargetTest

__all__ = ["FEWEST_VIDEOS", "RESAMPLES", "Interval", "Intervals", "target_intervals"]


def target_intervals(test: TargetTest) -> Intervals | None:
    """The intervals of a run's target test; see :func:`~microg_da.evaluation.intervals.paired_intervals`."""
    return paired_intervals(test.truth, test.detections, test.taxonomy, test.protocol)
