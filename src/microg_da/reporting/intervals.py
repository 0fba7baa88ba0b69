"""How sure a run's figures are: intervals over the source videos of its target test set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from microg_da.evaluation.protocols import get_protocol, prepare
from microg_da.evaluation.uncertainty import Resampled, cluster, cluster_names, draw, interval, weighted_scores
from microg_da.reporting.target_scores import TargetTest
from microg_da.runs.reader import ADAPTED, SOURCE_ONLY, TARGET_SUPERVISED

RESAMPLES = 1000
FEWEST_VIDEOS = 5
"""With fewer source videos nothing is said: so few cannot show how videos differ."""


class Interval(NamedTuple):
    """Bounds between which a figure lies with 95% confidence, as fractions; NaN where nothing can be said."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """95% intervals of target scores.

    Attributes:
        map: of the mAP of each row of the run.
        change: of the adapted minus the source-only mAP, if the run has both.
        gap_recovered: of the gap recovered, if it is defined.
        class_change: of the adapted minus the source-only AP, by action id; empty without both.
        num_videos: how many source videos were drawn from.
    """

    map: dict[str, Interval]
    change: Interval | None
    gap_recovered: Interval | None
    class_change: dict[int, Interval]
    num_videos: int


def target_intervals(test: TargetTest) -> Intervals | None:
    """Resample the source videos of a run's target test, the same ones for every row.

    Drawn alike, what makes a video hard for all rows drops out of their differences. A resample in which the
    target-supervised detector is not better than the source-only one has no gap, and is left out of the gap recovered.

    Returns:
        The intervals, or None if the test set has fewer than :data:`FEWEST_VIDEOS` source videos.
    """
    names = cluster_names(test.truth, "source") if len(test.truth) else []
    if len(names) < FEWEST_VIDEOS or not test.detections:
        return None
    weights = np.concatenate([np.ones((1, len(names) + 1)), draw(len(names), RESAMPLES, seed=0)])
    rows = {row: _resampled(test, row, names, weights) for row in test.detections}
    maps = {row: values.macro for row, values in rows.items()}
    change, class_change = None, {}
    if {SOURCE_ONLY, ADAPTED} <= rows.keys():
        change = _interval(maps[ADAPTED] - maps[SOURCE_ONLY])
        classes = rows[ADAPTED].per_class - rows[SOURCE_ONLY].per_class
        class_change = {action: _interval(values) for action, values in zip(test.taxonomy.ids, classes.T, strict=True)}
    return Intervals(
        map={row: _interval(values) for row, values in maps.items()},
        change=change,
        gap_recovered=_gap_recovered(maps),
        class_change=class_change,
        num_videos=len(names),
    )


def _resampled(test: TargetTest, row: str, names: list[str], weights: np.ndarray) -> Resampled:
    protocol = get_protocol(test.protocol)
    outcomes, _ = prepare(test.detections[row], test.truth, protocol, test.taxonomy, "logit")
    clustered = cluster(outcomes, protocol.threshold("logit"), names, "source")
    return weighted_scores(clustered, weights, protocol.all_classes, "map")


def _gap_recovered(maps: dict[str, np.ndarray]) -> Interval | None:
    if not {SOURCE_ONLY, ADAPTED, TARGET_SUPERVISED} <= maps.keys():
        return None
    gap = maps[TARGET_SUPERVISED] - maps[SOURCE_ONLY]
    recovered = np.divide(maps[ADAPTED] - maps[SOURCE_ONLY], gap, out=np.full_like(gap, np.nan), where=gap > 0)
    return None if np.isnan(recovered[0]) else _interval(recovered)


def _interval(values: np.ndarray) -> Interval:
    """Of (1 + B,) values: that of the data themselves, then one for each resample."""
    return Interval(*interval(values[1:], float(values[0])))
