"""The finding of a finished run, computed from its variants."""

from __future__ import annotations

from dataclasses import replace

from microg_da.evaluation.finding import Finding, find
from microg_da.evaluation.intervals import Intervals
from microg_da.processes import is_leader
from microg_da.runs.folder import Run
from microg_da.runs.layout import RunFolder
from microg_da.runs.results import RunResults
from microg_da.runs.tables import TargetTest, read_target_test, read_truth
from microg_da.taxonomy import get_taxonomy


def conclude(run: Run) -> None:
    """Compare the tested variants of a run, and add the finding to its results."""
    if not is_leader():
        return
    results, config = run.results, run.config
    variants = [result.variant for result in results.variants]
    target = read_target_test(run, variants, get_taxonomy(config.data.taxonomy), config.evaluation.protocol)
    intervals = None if target is None else target.intervals()
    run.save_results(replace(results, finding=find_in_tables(run, results, target, intervals)))


def find_in_tables(
    run: RunFolder, results: RunResults, target: TargetTest | None, intervals: Intervals | None
) -> Finding:
    """Return the finding of a run, from its scores and its tables.

    Args:
        run: the folder of the run.
        results: the scores of all variants.
        target: the target test; None if its tables are missing.
        intervals: the intervals of this test; None if there are none.
    """
    return find(
        results.target_maps,
        results.boxes,
        intervals,
        source=read_truth(run, "source"),
        target=None if target is None else target.truth,
    )
