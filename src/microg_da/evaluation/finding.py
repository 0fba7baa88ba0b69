"""Findings of a run with uncertainty: the change by the adaptation, the gap, and the gap recovered.

A difference whose interval contains 0 is not a measurable change. A gap recovered is given only for a measurable gap,
since a fraction of noise is meaningless.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.source_videos import source_videos_of
from microg_da.evaluation.intervals import Interval, Intervals, gap_recovered
from microg_da.types import VARIANTS, Variant

FEWEST_BOXES = 100
"""Target test sets with fewer boxes are small: with 50 classes they have fewer than two boxes per class."""

Verdict = Literal["better", "worse", "no_measurable_change", "unknown"]
"""The conclusion from an interval; ``unknown`` without an interval."""

Absence = Literal["no_adaptation", "no_bound", "no_score", "no_interval", "no_gap", "gap_not_measurable"]
"""The reason for a missing gap recovered.

- ``no_adaptation``, ``no_bound``: the run has no adapted, or no target-supervised, detector.
- ``no_score``: a detector has no target mAP.
- ``no_interval``: the test set has too few source videos, or its tables are missing.
- ``no_gap``: the target-supervised detector is measurably no better than the source-only one.
- ``gap_not_measurable``: the interval of the gap contains 0.
"""


@dataclass(frozen=True)
class Difference:
    """A difference of two target mAPs, as fractions.

    Attributes:
        value: the difference.
        low: lower bound of the 95% interval over source videos; None without an interval.
        high: likewise.
        verdict: conclusion from the interval.
    """

    value: float
    low: float | None
    high: float | None
    verdict: Verdict

    @classmethod
    def of(cls, value: float, interval: Interval | None) -> Difference:
        """Return a difference with its interval; NaN bounds count as no interval."""
        if interval is None or math.isnan(interval.low):
            return cls(value, None, None, "unknown")
        return cls(value, interval.low, interval.high, verdict_of(interval))

    @property
    def measurable(self) -> bool:
        """Whether its interval excludes 0."""
        return self.verdict in ("better", "worse")


def verdict_of(interval: Interval | None) -> Verdict:
    """Conclusion from a difference with this interval."""
    if interval is None or math.isnan(interval.low):
        return "unknown"
    if not interval.excludes_zero:
        return "no_measurable_change"
    return "better" if interval.low > 0 else "worse"


@dataclass(frozen=True)
class Finding:
    """The finding of a run on its target test set.

    Attributes:
        change: adapted minus source-only mAP; None if one of them is missing.
        gap: target-supervised minus source-only mAP; None if one of them is missing.
        gap_recovered: the fraction of the gap that the adaptation recovers; None for the reason in ``absent``.
        absent: the reason for a missing gap recovered, or None.
        boxes: boxes in the target test set; None if unknown.
        few_boxes: whether these are fewer than :data:`FEWEST_BOXES`.
        source_videos: source videos in the target test set, which are resampled for intervals; None if unknown.
        shared_boxes: number of these boxes that are also in the source test set; None if unknown.
        same_data: whether all boxes are shared, so that source and target are the same data.
    """

    change: Difference | None
    gap: Difference | None
    gap_recovered: float | None
    absent: Absence | None
    boxes: int | None
    few_boxes: bool
    source_videos: int | None
    shared_boxes: int | None
    same_data: bool


def find(
    maps: Mapping[Variant, float],
    boxes: int | None,
    intervals: Intervals | None = None,
    *,
    source: pd.DataFrame | None = None,
    target: pd.DataFrame | None = None,
) -> Finding:
    """Conclusion from the scores of a finished run.

    Args:
        maps: target mAP of each variant of the run; NaN where it is not defined.
        boxes: boxes in the target test set; None if unknown.
        intervals: intervals of the same detectors, or None.
        source: the annotations of the source test set; None if unknown.
        target: the annotations of the target test set, likewise.
    """
    shared_boxes = None if source is None or target is None else count_shared_boxes(source, target)
    change = _difference(maps, "adapted", intervals.change if intervals else None)
    gap = _difference(maps, "target_supervised", intervals.gap if intervals else None)
    absent = _absence(maps, gap)
    return Finding(
        change=change,
        gap=gap,
        gap_recovered=_gap_recovered(maps) if absent is None else None,
        absent=absent,
        boxes=boxes,
        few_boxes=boxes is not None and boxes < FEWEST_BOXES,
        source_videos=None if target is None else source_videos_of(target, target).nunique(),
        shared_boxes=shared_boxes,
        same_data=bool(boxes) and shared_boxes == boxes,
    )


def count_shared_boxes(source: pd.DataFrame, target: pd.DataFrame) -> int:
    """Count the target boxes that are also in the source: equal coordinates in the same keyframe."""

    def boxes(table: pd.DataFrame) -> set[tuple[object, ...]]:
        places = table[BOX].round(4)
        clips = table["video_id"].astype(str)
        return set(zip(clips, table[KEYFRAME[1]].astype(str), *(places[side] for side in BOX), strict=True))

    return len(boxes(source) & boxes(target))


def _difference(maps: Mapping[Variant, float], variant: Variant, interval: Interval | None) -> Difference | None:
    if not {variant, "source_only"} <= maps.keys():
        return None
    value = maps[variant] - maps["source_only"]
    return None if math.isnan(value) else Difference.of(value, interval)


def _gap_recovered(maps: Mapping[Variant, float]) -> float:
    return float(gap_recovered(*(np.asarray(maps[variant]) for variant in VARIANTS)))


def _absence(maps: Mapping[Variant, float], gap: Difference | None) -> Absence | None:
    if "adapted" not in maps:
        return "no_adaptation"
    if "target_supervised" not in maps:
        return "no_bound"
    if gap is None or math.isnan(maps["adapted"]):
        return "no_score"
    reasons: dict[Verdict, Absence] = {
        "unknown": "no_interval",
        "no_measurable_change": "gap_not_measurable",
        "worse": "no_gap",
    }
    # Rounding in tables may give an interval above 0 around a value that is not above 0.
    return reasons.get(gap.verdict) or ("no_gap" if gap.value <= 0 else None)
