"""Intervals of the detectors of one run, from the same resamples of source videos, so that differences are paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from microg_da.evaluation.classwise import divide
from microg_da.evaluation.protocols import get_protocol, prepare
from microg_da.evaluation.uncertainty import Resampled, cluster, cluster_names, draw, interval, weighted_scores
from microg_da.taxonomy import Taxonomy
from microg_da.types import VARIANTS, Variant

N = TypeVar("N", bound=str)
"""The names of detectors that are compared: the variants of a run, or others."""

RESAMPLES = 1000
FEWEST_VIDEOS = 5
"""The smallest number of source videos for an interval."""


class Interval(NamedTuple):
    """Bounds of a 95% interval, as fractions; NaN if undefined."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0; False if undefined."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Intervals:
    """95% intervals of target scores.

    Attributes:
        map: intervals of the mAP of each variant of the run.
        change: interval of the adapted minus the source-only mAP, if the run has both.
        gap: interval of the target-supervised minus the source-only mAP, if the run has both.
        gap_recovered: interval of the gap recovered, if defined.
        class_change: intervals of the adapted minus the source-only AP, by action id; empty without both.
        group_change: likewise for the mean AP of each group of actions, by group.
        num_videos: number of resampled source videos.
    """

    map: dict[Variant, Interval]
    change: Interval | None
    gap: Interval | None
    gap_recovered: Interval | None
    class_change: dict[int, Interval]
    group_change: dict[str, Interval]
    num_videos: int


def paired_intervals(
    truth: pd.DataFrame, detections: Mapping[Variant, pd.DataFrame], taxonomy: Taxonomy, protocol: str
) -> Intervals | None:
    """Resample the source videos of a target test set, the same ones for every variant.

    With equal draws, the difficulty of a video for all variants cancels in differences. Resamples in which the
    target-supervised detector is not better than the source-only one have no gap, and are excluded from the gap
    recovered.

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
    if {"source_only", "adapted"} <= drawn.keys():
        classes = drawn["adapted"].per_class - drawn["source_only"].per_class
        class_change = {action: of_resamples(values) for action, values in zip(taxonomy.ids, classes.T, strict=True)}
        group_change = {group: of_resamples(values) for group, values in group_means(classes, taxonomy).items()}
    return Intervals(
        map={variant: of_resamples(values) for variant, values in maps.items()},
        change=_difference(maps, "adapted"),
        gap=_difference(maps, "target_supervised"),
        gap_recovered=_gap_recovered(maps),
        class_change=class_change,
        group_change=group_change,
        num_videos=len(cluster_names(truth, "source")),
    )


def resample(
    truth: pd.DataFrame, detections: Mapping[N, pd.DataFrame], taxonomy: Taxonomy, protocol: str
) -> dict[N, Resampled] | None:
    """Return the mAP of each detector on the data and on each resample of source videos.

    Arguments as in :func:`paired_intervals`; the detectors may have any names. Resample number b holds the same source
    videos in every call for the same truth.

    Returns:
        ``(1 + B,)`` mAP and ``(1 + B, C)`` AP of each detector; None if there are too few source videos.
    """
    names = cluster_names(truth, "source") if len(truth) else []
    if len(names) < FEWEST_VIDEOS or not detections:
        return None
    weights = np.concatenate([np.ones((1, len(names) + 1)), draw(len(names), RESAMPLES, seed=0)])
    rules = get_protocol(protocol)
    found: dict[N, Resampled] = {}
    for name, table in detections.items():
        outcomes, _ = prepare(table, truth, rules, taxonomy, "logit")
        clustered = cluster(outcomes, rules.threshold("logit"), names, "source")
        found[name] = weighted_scores(clustered, weights, rules.all_classes, "map")
    return found


def of_resamples(values: np.ndarray) -> Interval:
    """Return the interval of (1 + B,) values: the value of the data, then one for each resample."""
    return Interval(*interval(values[1:], float(values[0])))


def group_means(values: np.ndarray, taxonomy: Taxonomy) -> dict[str, np.ndarray]:
    """Return (1 + B,) means over the defined classes of each group, from (1 + B, C) values."""
    groups = np.array(taxonomy.groups)
    return {group: _mean(values[:, groups == group]) for group in dict.fromkeys(taxonomy.groups)}


def gap_recovered(source_only: np.ndarray, adapted: np.ndarray, target_supervised: np.ndarray) -> np.ndarray:
    """Return the gap recovered: (adapted − source-only) / (target-supervised − source-only).

    Args:
        source_only: mAP, of any shape.
        adapted: likewise.
        target_supervised: likewise.

    Returns:
        of the same shape; NaN where the gap is not above 0.
    """
    gap = np.asarray(target_supervised - source_only)
    recovered: np.ndarray = np.divide(adapted - source_only, gap, out=np.full(gap.shape, np.nan), where=gap > 0)
    return recovered


def _difference(maps: Mapping[Variant, np.ndarray], variant: Variant) -> Interval | None:
    return of_resamples(maps[variant] - maps["source_only"]) if {"source_only", variant} <= maps.keys() else None


def _gap_recovered(maps: Mapping[Variant, np.ndarray]) -> Interval | None:
    if not set(VARIANTS) <= maps.keys():
        return None
    recovered = gap_recovered(*(maps[variant] for variant in VARIANTS))
    return None if np.isnan(recovered[0]) else of_resamples(recovered)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row over defined values; NaN without any."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    return divide(total, count)
