"""Intervals of a run's figures, against the bootstrap of `evaluate` and of single differences."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from microg_da.evaluation.intervals import FEWEST_VIDEOS, RESAMPLES
from microg_da.evaluation.uncertainty import bootstrap, interval
from microg_da.reporting.analysis import RunAnalysis
from microg_da.runs.tables import TargetTest


@pytest.fixture
def test(make_run) -> TargetTest:
    return RunAnalysis.read(make_run(examples=0, tables=True)).target_test


@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_each_row_has_the_interval_that_evaluate_gives(test, protocol):
    test = TargetTest(test.truth, test.detections, test.taxonomy, protocol)
    found = test.intervals()
    drawn = {
        row: bootstrap(table, test.truth, protocol=protocol, resamples=RESAMPLES)
        for row, table in test.detections.items()
    }
    assert found.num_videos == 12
    for row, values in drawn.items():
        assert found.map[row] == pytest.approx(interval(values.macro["map"], values.point["map"]))
    before, after, bound = (drawn[row] for row in ("source_only", "adapted", "target_supervised"))
    change = interval(after.macro["map"] - before.macro["map"], after.point["map"] - before.point["map"])
    assert found.change == pytest.approx(change)
    gap = (after.macro["map"] - before.macro["map"]) / (bound.macro["map"] - before.macro["map"])
    point = (after.point["map"] - before.point["map"]) / (bound.point["map"] - before.point["map"])
    assert found.gap_recovered == pytest.approx(interval(gap, point))
    column = test.taxonomy.index(12)
    of_class = interval(
        after.per_class["map"][:, column] - before.per_class["map"][:, column],
        float(after.class_point["map"][column] - before.class_point["map"][column]),
    )
    assert found.class_change[12] == pytest.approx(of_class)


def test_differences_of_equal_detectors_are_nothing(test):
    same = dict.fromkeys(("source_only", "adapted"), test.detections["adapted"])
    found = TargetTest(test.truth, same, test.taxonomy, "corrected").intervals()
    assert found.change == (0, 0)
    assert found.gap_recovered is None
    known = [value for value in found.class_change.values() if not np.isnan(value.low)]
    assert set(known) == {(0, 0)}


@pytest.mark.parametrize("videos", [0, 1, FEWEST_VIDEOS - 1])
def test_nothing_is_said_of_too_few_source_videos(test, videos):
    kept = tuple(f"target{number}_" for number in range(videos))
    few = test.truth[test.truth["video_id"].str.startswith(kept)]
    assert TargetTest(few, test.detections, test.taxonomy, "corrected").intervals() is None


def test_a_run_without_an_adaptation(test):
    alone = {"source_only": test.detections["source_only"]}
    found = TargetTest(test.truth, alone, test.taxonomy, "corrected").intervals()
    assert (found.change, found.gap_recovered, found.class_change) == (None, None, {})


def test_no_tables_no_intervals(make_run):
    folder = make_run(examples=0, tables=True)
    (folder / "detections" / "adapted_target.csv.gz").unlink()
    run = RunAnalysis.read(folder)
    assert (run.target_test, run.intervals) == (None, None)


def test_the_taxonomy_is_that_of_the_configuration(make_run):
    folder = make_run(examples=0, tables=True)
    (folder / "config.yaml").write_text(json.dumps({"data": {"taxonomy": "ava60"}}))
    test = RunAnalysis.read(folder).target_test
    assert test.taxonomy.name == "ava60"
    assert isinstance(test.truth, pd.DataFrame)
