"""What a run found: verdicts, the gap recovered and why there is none."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microg_da.evaluation.finding import FEWEST_BOXES, count_shared_boxes, find, verdict_of
from microg_da.evaluation.intervals import Interval, Intervals, gap_recovered, paired_intervals
from microg_da.taxonomy import get_taxonomy

NAN = Interval(math.nan, math.nan)


def intervals(change=None, gap=None):
    return Intervals({}, change, gap, None, {}, {}, 12)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (None, "unknown"),
        (NAN, "unknown"),
        (Interval(-0.01, 0.02), "no_measurable_change"),
        (Interval(0.0, 0.0), "no_measurable_change"),
        (Interval(0.001, 0.02), "better"),
        (Interval(-0.02, -0.001), "worse"),
    ],
)
def test_a_difference_counts_where_its_interval_excludes_0(interval, verdict):
    assert verdict_of(interval) == verdict
    found = find({"source_only": 0.3, "adapted": 0.31}, 500, intervals(change=interval))
    assert found.change.verdict == verdict
    assert found.change.measurable == (verdict in ("better", "worse"))


WIDE, ABOVE, BELOW = Interval(-0.1, 0.3), Interval(0.1, 0.3), Interval(-0.3, -0.1)


@pytest.mark.parametrize(
    ("maps", "gap", "recovered", "absent"),
    [
        ({"source_only": 0.3, "adapted": 0.4, "target_supervised": 0.5}, ABOVE, 0.5, None),
        ({"source_only": 0.3, "adapted": 0.2, "target_supervised": 0.5}, ABOVE, -0.5, None),
        ({"source_only": 0.3, "adapted": 0.34, "target_supervised": 0.32}, WIDE, None, "gap_not_measurable"),
        ({"source_only": 0.5, "adapted": 0.6, "target_supervised": 0.3}, BELOW, None, "no_gap"),
        ({"source_only": 0.3, "adapted": 0.4, "target_supervised": 0.5}, None, None, "no_interval"),
        ({"source_only": 0.3, "adapted": 0.4, "target_supervised": 0.5}, NAN, None, "no_interval"),
        ({"source_only": 0.5, "adapted": 0.6}, None, None, "no_bound"),
        ({"source_only": 0.5, "target_supervised": 0.6}, ABOVE, None, "no_adaptation"),
        ({"source_only": math.nan, "adapted": 0.6, "target_supervised": 0.7}, None, None, "no_score"),
        ({"source_only": 0.5, "adapted": math.nan, "target_supervised": 0.7}, ABOVE, None, "no_score"),
    ],
)
def test_the_gap_recovered_or_why_there_is_none(maps, gap, recovered, absent):
    found = find(maps, 500, intervals(gap=gap))
    assert found.gap_recovered == (None if recovered is None else pytest.approx(recovered))
    assert found.absent == absent


@pytest.mark.parametrize(("boxes", "few"), [(FEWEST_BOXES - 1, True), (FEWEST_BOXES, False), (None, False)])
def test_few_boxes(boxes, few):
    assert find({"source_only": 0.3}, boxes).few_boxes is few


def table(*people):
    frame = pd.DataFrame(people, columns=["video_id", "frame_stamp", "x1", "y1", "x2", "y2"])
    return frame.loc[frame.index.repeat(2)].assign(action_id=[11, 12] * len(frame))  # two labels a person


def test_the_same_data_is_known_by_its_boxes():
    here = table(("a_1", 45, 0.1, 0.1, 0.5, 0.5), ("b_1", 45, 0.2, 0.1, 0.5, 0.5))
    there = table(("a_1", 45, 0.1, 0.1, 0.5, 0.5), ("b_1", 46, 0.2, 0.1, 0.5, 0.5))
    assert [count_shared_boxes(here, other) for other in (here, there, here[:0])] == [2, 1, 0]
    found = {name: find({"source_only": 0.3}, 2, source=here, target=other) for name, other in
             (("same", here), ("other", there))}  # fmt: skip
    assert (found["same"].same_data, found["same"].source_videos) == (True, 2)
    assert (found["other"].same_data, found["other"].shared_boxes) == (False, 1)


numbers = st.floats(-1, 1)


@given(numbers, numbers, numbers, st.integers(0, 400))
def test_a_gap_recovered_or_a_reason(before, after, bound, boxes):
    maps = {"source_only": before, "adapted": after, "target_supervised": bound}
    found = find(maps, boxes, intervals(Interval(after - 1, after), Interval(bound, bound + 1)))
    assert (found.gap_recovered is None) == (found.absent is not None)


@given(numbers, numbers, numbers)
def test_the_formula_of_arrays_is_that_of_figures(before, after, bound):
    (found,) = gap_recovered(np.array([before]), np.array([after]), np.array([bound]))
    if bound > before:
        assert found == (after - before) / (bound - before)
    else:
        assert math.isnan(found)


def test_intervals_of_the_gap_and_of_groups_are_those_of_their_resamples():
    rng = np.random.default_rng(0)
    taxonomy = get_taxonomy("microg50")
    ids = np.array(taxonomy.ids)
    people = pd.DataFrame({"video_id": [f"v{n % 8}_{n}" for n in range(48)], "frame_stamp": 45, "x1": 0.1, "y1": 0.1,
                           "x2": 0.5, "y2": 0.9})  # fmt: skip
    labels = rng.random((48, len(ids))) < 0.3
    person, column = np.nonzero(labels)
    truth = people.iloc[person].assign(action_id=ids[column], person_id=0).reset_index(drop=True)
    said = {}
    for skill, name in enumerate(("source_only", "adapted", "target_supervised")):
        score = rng.normal(size=labels.shape) + skill * labels
        said[name] = people.loc[people.index.repeat(len(ids))].assign(action_id=np.tile(ids, 48), score=score.ravel())
    found = paired_intervals(truth, said, taxonomy, "corrected")
    assert found.gap.low > 0
    assert found.change.low > 0
    assert found.gap.low > found.change.low
    same = paired_intervals(truth, said | {"target_supervised": said["source_only"]}, taxonomy, "corrected")
    assert same.gap == (0, 0)
    assert set(found.group_change) == set(taxonomy.groups)
    for interval in found.group_change.values():
        assert interval.low < interval.high
