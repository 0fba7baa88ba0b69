"""Outcomes of dense arrays against those of the table of detections that the arrays stand for."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microg_da.errors import InputError
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.evaluation.outcomes import Outcomes
from microg_da.evaluation.protocols import PROTOCOLS, evaluate_part
from microg_da.taxonomy import Taxonomy

IDS = (1, 12, 17, 80)
TAXONOMY = Taxonomy("four", IDS, ("a", "b", "c", "d"))
FOREIGN = 5
BOX = ["x1", "y1", "x2", "y2"]
BOXES = np.array([(0.1, 0.1, 0.4, 0.9), (0.15, 0.1, 0.45, 0.9), (0.5, 0.2, 0.9, 0.8), (0.0, 0.0, 0.2, 0.2)])
SCORES = np.array([-np.inf, -2.0, -1.0, 0.0, 0.0, 1.0, 3.0])
"""Few values, so that many are equal; −inf says nothing."""


def keyframe_table(count: int) -> pd.DataFrame:
    return pd.DataFrame({"video_id": [f"film{n % 3}_{n}" for n in range(count)], "frame_stamp": 45})


@st.composite
def cases(draw: st.DrawFn) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Keyframes, of which some have no people and others no detections, boxes that repeat, and ground truth."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    keyframes = keyframe_table(draw(st.integers(1, 6)))
    count = draw(st.integers(0, 12))
    keyframe = rng.integers(0, len(keyframes), count)
    boxes = BOXES[rng.integers(0, len(BOXES), count)]
    scores = SCORES[rng.integers(0 if draw(st.booleans()) else 1, len(SCORES), (count, len(IDS)))]
    rows = [
        (*keyframes.iloc[rng.integers(0, len(keyframes))], *BOXES[rng.integers(0, 3)], rng.choice(IDS))
        for _ in range(draw(st.integers(0, 10)))
    ]
    truth = pd.DataFrame(rows, columns=["video_id", "frame_stamp", *BOX, "action_id"])
    types = {"frame_stamp": int, "action_id": int, **dict.fromkeys(BOX, float)}
    return keyframes, keyframe, boxes, scores, truth.astype(types)


def as_table(keyframes: pd.DataFrame, keyframe: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """One row for each box and class with a score."""
    rows = [
        (*keyframes.iloc[keyframe[box]], *boxes[box], action, score)
        for box in range(len(boxes))
        for action, score in zip(IDS, scores[box], strict=True)
        if np.isfinite(score)
    ]
    table = pd.DataFrame(rows, columns=["video_id", "frame_stamp", *BOX, "action_id", "score"])
    return table.astype({"frame_stamp": int, "action_id": int, "score": float, **dict.fromkeys(BOX, float)})


def assert_equal(found: Outcomes, expected: Outcomes) -> None:
    for field in fields(Outcomes):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, pd.DataFrame):
            assert one.to_numpy().tolist() == other.to_numpy().tolist(), field.name
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
            assert one.dtype == other.dtype, field.name
        else:
            assert one == other, field.name


@settings(deadline=None)
@given(case=cases(), truth=st.sampled_from(["frame", "box"]), drop=st.booleans())
def test_arrays_have_the_outcomes_of_their_table(case, truth, drop):
    keyframes, keyframe, boxes, scores, labels = case
    found = Outcomes.from_arrays(keyframes, keyframe, boxes, scores, labels, TAXONOMY, truth, drop)
    table = as_table(keyframes, keyframe, boxes, scores)
    assert_equal(found, Outcomes.from_tables(table, labels, TAXONOMY, truth, drop))


@settings(deadline=None)
@given(case=cases(), protocol=st.sampled_from(list(PROTOCOLS)), foreign=st.integers(0, 3))
def test_the_metric_scores_as_its_table_does_to_the_last_digit(case, protocol, foreign):
    keyframes, keyframe, boxes, scores, labels = case
    # Labels of no class of the taxonomy, in keyframes that may have no others.
    foreign_rows = keyframes.head(foreign).assign(x1=0.1, y1=0.1, x2=0.4, y2=0.9, action_id=FOREIGN)
    truth = pd.concat([labels, foreign_rows], ignore_index=True)
    metric = DetectionMetrics(truth, TAXONOMY, protocol)
    known = keyframes.merge(metric.keyframes.reset_index(), how="left")["index"].to_numpy()[keyframe]
    seen = ~np.isnan(known)
    finite = np.where(np.isfinite(scores), scores, -9.0)
    metric.update(*map(torch.from_numpy, (known[seen].astype(np.int64), boxes[seen], finite[seen])))
    found = metric.scores()
    expected = evaluate_part(metric.detections(), truth, protocol=protocol, taxonomy=TAXONOMY)
    pd.testing.assert_frame_equal(found.per_class, expected.per_class, check_exact=True)
    # As text, in which NaN equals NaN and every digit counts.
    assert str(found.as_dict(per_class=False)) == str(expected.as_dict(per_class=False))


@pytest.mark.parametrize(
    ("box", "logit", "named"),
    [
        ((0.1, 0.1, 0.4, 0.9), float("nan"), "score"),
        ((0.4, 0.1, 0.4, 0.9), 1.0, "x1 < x2"),
        ((0.1, 0.1, 1.4, 0.9), 1.0, r"\[0, 1\]"),
    ],
)
def test_the_metric_refuses_what_a_table_may_not_hold(box, logit, named):
    truth = keyframe_table(1).assign(x1=0.1, y1=0.1, x2=0.4, y2=0.9, action_id=12)
    metric = DetectionMetrics(truth, TAXONOMY)
    metric.update(torch.tensor([0]), torch.tensor([box]), torch.tensor([[0.0, 0.0, logit, 0.0]]))
    with pytest.raises(InputError, match=named):
        metric.scores()
