"""The data of a run for reports: the contents of its folder, and the results computed from its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from microg_da.evaluation.finding import Finding
from microg_da.evaluation.intervals import Intervals
from microg_da.runs.conclusion import find_in_tables
from microg_da.runs.curves import read_curves
from microg_da.runs.environment import read_environment
from microg_da.runs.examples import ExampleKeyframe, read_example_list
from microg_da.runs.folder import Run
from microg_da.runs.record import RunRecord, read_record
from microg_da.runs.results import RunResults, read_results
from microg_da.runs.tables import TargetTest, read_target_test
from microg_da.taxonomy import Taxonomy, get_taxonomy
from microg_da.types import Variant


@dataclass(frozen=True)
class RunAnalysis:
    """One run, read from its folder.

    Attributes:
        run: the folder.
        record: the record of the run.
        results: its scores.
        environment: versions and machine, as text.
        curves: the logged values of each stage, in order.
        examples: annotated keyframes.
    """

    run: Run
    record: RunRecord
    results: RunResults
    environment: dict[str, str]
    curves: dict[str, pd.DataFrame]
    examples: tuple[ExampleKeyframe, ...]

    @classmethod
    def read(cls, path: str | Path) -> RunAnalysis:
        """Read all files of a report.

        Raises:
            InputError: if ``run.json`` or ``results.json`` is missing, or a file cannot be understood.
        """
        run = Run(path)
        return cls(
            run=run,
            record=read_record(run.record_file),
            results=read_results(run.results_file),
            environment=read_environment(run.environment_file),
            curves=read_curves(run),
            examples=read_example_list(run.examples_file),
        )

    @cached_property
    def target_test(self) -> TargetTest | None:
        """The ground truth of the target test and the detections of all variants, if the tables are in the folder."""
        return self.read_test([result.variant for result in self.results.variants])

    def read_test(self, variants: Sequence[Variant]) -> TargetTest | None:
        """Return :attr:`target_test` for some variants only, without caching."""
        return read_target_test(self.run, variants, self.taxonomy, self.record.protocol)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes of the run."""
        return get_taxonomy(self.run.settings.get("data.taxonomy", "microg50"))

    @cached_property
    def intervals(self) -> Intervals | None:
        """Intervals of the target scores; None without the tables, or with too few source videos."""
        return None if self.target_test is None else self.target_test.intervals()

    @cached_property
    def finding(self) -> Finding:
        """The finding of the run: from its results or, if missing, computed from its tables."""
        return self.results.finding or find_in_tables(self.run, self.results, self.target_test, self.intervals)
