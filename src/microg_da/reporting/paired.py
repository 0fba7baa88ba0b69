"""Intervals of differences between settings: the same source videos are drawn for all runs; seeds are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microg_da.evaluation.intervals import Interval, group_means, of_resamples, resample
from microg_da.evaluation.uncertainty import Resampled
from microg_da.reporting.analysis import RunAnalysis
from microg_da.runs.tables import TargetTest
from microg_da.types import Variant


@dataclass(frozen=True)
class PairedIntervals:
    """95% intervals over source videos of a difference that is averaged over seeds.

    Attributes:
        change: interval of the difference in target mAP.
        classes: intervals of differences in AP, by action id.
        groups: intervals of differences in the mean AP of each group.
    """

    change: Interval
    classes: dict[int, Interval]
    groups: dict[str, Interval]


class Draws:
    """Resampled scores of runs on one target test set, computed on first use.

    Runs without tables, or with another test set than the first such run, have no resampled scores.
    """

    def __init__(self) -> None:
        self._test: TargetTest | None = None
        self._drawn: dict[tuple[Path, Variant], Resampled | None] = {}

    def between(self, mine: Sequence[RunAnalysis], reference: Sequence[RunAnalysis]) -> PairedIntervals | None:
        """Compare the final detectors of two settings over their common seeds."""
        before, after = (self._by_seed([(run, final_variant(run)) for run in runs]) for runs in (reference, mine))
        return self._intervals(before, after)

    def within(self, runs: Sequence[RunAnalysis]) -> PairedIntervals | None:
        """Compare the adapted and the source-only detectors of the runs of a setting."""
        both = [run for run in runs if run.results.adapted and run.results.source_only]
        before = self._by_seed([(run, "source_only") for run in both])
        after = self._by_seed([(run, "adapted") for run in both])
        return self._intervals(before, after)

    def _intervals(
        self, before: dict[object, Resampled | None], after: dict[object, Resampled | None]
    ) -> PairedIntervals | None:
        pairs = [(before[seed], after[seed]) for seed in after if seed in before]
        known = [(first, second) for first, second in pairs if first is not None and second is not None]
        if not known or len(known) < len(pairs) or self._test is None:
            return None
        change = np.mean([second.macro - first.macro for first, second in known], axis=0)
        classes = np.mean([second.per_class - first.per_class for first, second in known], axis=0)
        taxonomy = self._test.taxonomy
        return PairedIntervals(
            change=of_resamples(change),
            classes={action: of_resamples(values) for action, values in zip(taxonomy.ids, classes.T, strict=True)},
            groups={group: of_resamples(values) for group, values in group_means(classes, taxonomy).items()},
        )

    def _by_seed(self, detectors: Sequence[tuple[RunAnalysis, Variant]]) -> dict[object, Resampled | None]:
        """Return the mean over the runs of each seed; None if a run of the seed has no resampled scores."""
        found: dict[object, list[Resampled | None]] = {}
        for run, variant in detectors:
            found.setdefault(run.record.seed, []).append(self._of(run, variant))
        return {seed: _mean([one for one in drawn if one is not None], len(drawn)) for seed, drawn in found.items()}

    def _of(self, run: RunAnalysis, variant: Variant) -> Resampled | None:
        key = (run.run.path, variant)
        if key not in self._drawn:
            self._drawn[key] = self._draw(run, variant)
        return self._drawn[key]

    def _draw(self, run: RunAnalysis, variant: Variant) -> Resampled | None:
        test = run.read_test([variant])
        if test is None:
            return None
        if self._test is None:
            self._test = test
        elif not test.truth.equals(self._test.truth) or test.protocol != self._test.protocol:
            return None
        drawn = resample(test.truth, test.detections, test.taxonomy, test.protocol)
        return None if drawn is None else drawn[variant]


def final_variant(run: RunAnalysis) -> Variant:
    """Return the final detector of a run: the adapted one, or without adaptation the source-only one."""
    return run.results.final.variant if run.results.final else "source_only"


def _mean(drawn: Sequence[Resampled], wanted: int) -> Resampled | None:
    if not drawn or len(drawn) < wanted:
        return None
    return Resampled(*(np.mean(values, axis=0) for values in zip(*drawn, strict=True)))
