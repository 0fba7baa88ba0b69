"""What labels are taken for, against plain loops and, where people carry one label, sklearn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.confusion import confusion, confusion_content, confusions
from microg_da.runs.tables import TargetTest
from microg_da.taxonomy import get_taxonomy

TAXONOMY = get_taxonomy("microg50")
GROUPS = np.array(TAXONOMY.groups)
MOVEMENTS = np.flatnonzero(GROUPS == "PM")


def by_hand(scores: np.ndarray, truth: np.ndarray) -> dict[tuple[int, int], float]:
    """Shares by (label, class it is read as), person by person."""
    found: dict[tuple[int, int], float] = {}
    for label in range(truth.shape[1]):
        people = [person for person in range(len(truth)) if truth[person, label]]
        for person in people:
            rivals = [
                c for c in range(truth.shape[1])
                if c == label or (GROUPS[c] == GROUPS[label] and not truth[person, c])
            ]  # fmt: skip
            top = max(scores[person, c] for c in rivals)
            winners = [c for c in rivals if scores[person, c] == top]
            for winner in winners if np.isfinite(top) else []:
                key = (label, winner)
                found[key] = found.get(key, 0.0) + 1 / len(winners) / len(people)
    return found


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.0, 0.3))
@settings(max_examples=10, deadline=None)
def test_equals_plain_loops(seed, people, rate):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that scores tie.
    scores = rng.integers(-3, 4, (people, len(TAXONOMY))).astype(float)
    scores[rng.random(people) < 0.2] = -np.inf
    truth = rng.random(scores.shape) < rate
    matrix = confusion(scores, truth, TAXONOMY)
    wanted = by_hand(scores, truth)
    assert list(matrix.shares.index) == [
        i for i, carried in zip(TAXONOMY.ids, truth.any(axis=0), strict=True) if carried
    ]
    for action in matrix.shares.index:
        label = TAXONOMY.index(action)
        for other in TAXONOMY.ids:
            share = matrix.shares.loc[action, other]
            if TAXONOMY.group(other) != TAXONOMY.group(action):
                assert np.isnan(share)
            else:
                assert share == pytest.approx(wanted.get((label, TAXONOMY.index(other)), 0.0))
        seen = np.isfinite(scores[truth[:, label]]).any(axis=1).mean()
        assert matrix.shares.loc[action].sum() == pytest.approx(seen)


def test_is_the_ordinary_confusion_matrix_where_people_carry_one_label():
    rng = np.random.default_rng(0)
    label = rng.choice(MOVEMENTS, 300)
    truth = np.zeros((300, len(TAXONOMY)), dtype=bool)
    truth[np.arange(300), label] = True
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    read_as = MOVEMENTS[scores[:, MOVEMENTS].argmax(axis=1)]
    ids = np.array(TAXONOMY.ids)[MOVEMENTS]
    wanted = confusion_matrix(label, read_as, labels=MOVEMENTS, normalize="true")
    matrix = confusion(scores, truth, TAXONOMY)
    np.testing.assert_allclose(matrix.shares.loc[ids, ids], wanted)
    np.testing.assert_array_equal(matrix.support.loc[ids], np.bincount(label, minlength=len(TAXONOMY))[MOVEMENTS])


def test_being_surer_of_everything_changes_nothing():
    rng = np.random.default_rng(1)
    scores, truth = rng.normal(size=(40, len(TAXONOMY))), rng.random((40, len(TAXONOMY))) < 0.1
    first, second = confusion(scores, truth, TAXONOMY), confusion(3 * scores - 5, truth, TAXONOMY)
    pd.testing.assert_frame_equal(first.shares, second.shares)


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_and_nobody_labelled(people):
    matrix = confusion(np.zeros((people, len(TAXONOMY))), np.zeros((people, len(TAXONOMY)), dtype=bool), TAXONOMY)
    assert matrix.shares.empty


def people(*labels_and_scores: tuple[set[int], dict[int, float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ground truth and detections of people in keyframes of their own; who is not scored is not detected."""
    truth, said = [], []
    for number, (labels, scores) in enumerate(labels_and_scores):
        where = {"video_id": f"video{number}_0", "frame_stamp": 45, "x1": 0.2, "y1": 0.2, "x2": 0.6, "y2": 0.9}
        truth += [{**where, "action_id": action, "person_id": 0} for action in labels]
        said += [{**where, "action_id": action, "score": score} for action, score in scores.items()]
    return pd.DataFrame(truth), pd.DataFrame(said)


def test_people_are_paired_with_detections_and_missed_ones_are_read_as_nothing():
    truth, said = people(({12, 59}, {12: -3, 14: -1, 59: -9}), ({12}, {12: 0, 14: -1, 62: 5}), ({12}, {}))
    matrix = confusions(TargetTest(truth, {"source_only": said}, TAXONOMY, "published"))["source_only"]
    assert matrix.shares.loc[12, [12, 14, 11]].tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert matrix.shares.loc[59, 59] == 1  # nothing else of its group was said
    assert matrix.support.to_dict() == {12: 3, 59: 1}


def test_the_page_names_what_is_most_taken_for(make_run):
    truth, said = people(({12}, {12: 1, 14: 2}), ({12}, {12: 1, 14: 2}), ({12}, {12: 0, 8: 3}), ({14}, {14: 1}))
    better = said.assign(score=said["score"].where(said["action_id"] != 12, 5))
    test = TargetTest(truth, {"source_only": said, "adapted": better}, TAXONOMY, "corrected")
    stand, walk = confusion_content(test)["lines"]
    assert (stand["name"], stand["support"], walk["name"]) == ("stand", 3, "walk")
    assert stand["right"] == {"source_only": 0, "adapted": 1}
    assert stand["change"] == 1
    assert stand["taken_for"]["adapted"] == []
    assert [name for name, _ in stand["taken_for"]["source_only"]] == ["walk", "lie/sleep"]
    folder = make_run(examples=0, tables=True)
    assert confusion_content(RunAnalysis.read(folder).target_test)["variants"] == ["source_only", "adapted"]
