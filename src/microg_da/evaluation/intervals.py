"""Intervals of the detectors of one run: all see the same draws of source videos, so differences are paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from microg_da.evaluation.protocols import get_protocol, prepare
from microg_da.evaluation.uncertainty import Resampled, cluster, cluster_names, draw, interval, weighted_scores
from microg_da.taxonomy import Taxonomy

SOURCE_ONLY, ADAPTED, TARGET_SUPERVISED = VARIANTS = ("source_only", "adapted", "target_supervised")
RESAMPLES = 1000
FEWEST_VIDEOS = 5
"""With fewer source videos no interval is given: so few cannot show how videos differ."""


class Interval(NamedTuple):
    """Bounds between which a figure lies with 95% confidence, as fractions; NaN where nothing can be said."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference with this interval is more than noise; False where nothing can be said."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Intervals:
    """95% intervals of target scores.

    Attributes:
        map: of the mAP of each variant of the run.
        change: of the adapted minus the source-only mAP, if the run has both.
        gap: of the target-supervised minus the source-only mAP, if the run has both.
        gap_recovered: of the gap recovered, if it is defined.
        class_change: of the adapted minus the source-only AP, by action id; empty without both.
        group_change: likewise of the mean AP of each group of actions, by group.
        num_videos: how many source videos were drawn from.
    """

    map: dict[str, Interval]
    change: Interval | None
    gap: Interval | None
    gap_recovered: Interval | None
    class_change: dict[int, Interval]
    group_change: dict[str, Interval]
    num_videos: int


def paired_intervals(
    truth: pd.DataFrame, detections: Mapping[str, pd.DataFrame], taxonomy: Taxonomy, protocol: str
) -> Intervals | None:
    """Resample the source videos of a target test set, the same ones for every variant.

    Drawn alike, what makes a video hard for all variants drops out of their differences. A resample in which the
    target-supervised detector is not better than the source-only one has no gap, and is left out of the gap recovered.

    Args:
        truth: table of annotations.
        detections: table of detections, scored by logits, of each variant.
        taxonomy: the classes.
        protocol: as in :func:`~microg_da.evaluation.evaluate`.

    Returns:
        The intervals, or None if the test set has fewer than :data:`FEWEST_VIDEOS` source videos.
    """
    drawn = resample(truth, detections, taxonomy, protocol)
    if drawn is None:
        return None
    maps = {variant: values.macro for variant, values in drawn.items()}
    class_change, group_change = {}, {}
    if {SOURCE_ONLY, ADAPTED} <= drawn.keys():
        classes = drawn[ADAPTED].per_class - drawn[SOURCE_ONLY].per_class
        class_change = {action: of_resamples(values) for action, values in zip(taxonomy.ids, classes.T, strict=True)}
        group_change = {group: of_resamples(values) for group, values in group_means(classes, taxonomy).items()}
    return Intervals(
        map={variant: of_resamples(values) for variant, values in maps.items()},
        change=_difference(maps, ADAPTED),
        gap=_difference(maps, TARGET_SUPERVISED),
        gap_recovered=_gap_recovered(maps),
        class_change=class_change,
        group_change=group_change,
        num_videos=len(cluster_names(truth, "source")),
    )


def resample(
    truth: pd.DataFrame, detections: Mapping[str, pd.DataFrame], taxonomy: Taxonomy, protocol: str
) -> dict[str, Resampled] | None:
    """Target mAP of each detector, of the data themselves and then of each resample of source videos.

    Arguments as in :func:`paired_intervals`. Resample number b holds the same source videos in every call for the
    same truth.

    Returns:
        ``(1 + B,)`` mAP and ``(1 + B, C)`` AP of each detector; None if there are too few source videos.
    """
    names = cluster_names(truth, "source") if len(truth) else []
    if len(names) < FEWEST_VIDEOS or not detections:
        return None
    weights = np.concatenate([np.ones((1, len(names) + 1)), draw(len(names), RESAMPLES, seed=0)])
    rules = get_protocol(protocol)
    found = {}
    for name, table in detections.items():
        outcomes, _ = prepare(table, truth, rules, taxonomy, "logit")
        clustered = cluster(outcomes, rules.threshold("logit"), names, "source")
        found[name] = weighted_scores(clustered, weights, rules.all_classes, "map")
    return found


def of_resamples(values: np.ndarray) -> Interval:
    """The interval of (1 + B,) values: that of the data themselves, then one for each resample."""
    return Interval(*interval(values[1:], float(values[0])))


def group_means(values: np.ndarray, taxonomy: Taxonomy) -> dict[str, np.ndarray]:
    """Of (1 + B, C) values of classes: the (1 + B,) means over the known ones of each group of actions."""
    groups = np.array(taxonomy.groups)
    return {group: _mean(values[:, groups == group]) for group in dict.fromkeys(taxonomy.groups)}


def _difference(maps: dict[str, np.ndarray], variant: str) -> Interval | None:
    return of_resamples(maps[variant] - maps[SOURCE_ONLY]) if {SOURCE_ONLY, variant} <= maps.keys() else None


def _gap_recovered(maps: dict[str, np.ndarray]) -> Interval | None:
    if not set(VARIANTS) <= maps.keys():
        return None
    gap = maps[TARGET_SUPERVISED] - maps[SOURCE_ONLY]
    recovered = np.divide(maps[ADAPTED] - maps[SOURCE_ONLY], gap, out=np.full_like(gap, np.nan), where=gap > 0)
    return None if np.isnan(recovered[0]) else of_resamples(recovered)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of each row over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
