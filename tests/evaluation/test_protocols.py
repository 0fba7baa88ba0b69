"""Both protocols against a plain loop, scikit-learn, the published figures, and inputs at the edge."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from work import calls_of

from microg_da.data.annotations import read_annotations, read_detections
from microg_da.errors import InputError
from microg_da.evaluation import evaluate
from microg_da.evaluation.outcomes import paired_iou
from microg_da.taxonomy import get_taxonomy

MODELS = [
    "C2D_8x8_R50",
    "C2D_NLN_8x8_R50",
    "I3D_8x8_R50",
    "I3D_NLN_8x8_R50",
    "MVIT_B_16x4",
    "MVITv2_S_16x4",
    "SLOWFAST_4x16_R50",
    "SLOWFAST_8x8_R50",
    "SLOWONLY_4x16_R50",
    "SLOWONLY_8x8_R50",
    "X3D_L",
    "X3D_S",
]
TESTED = ("C2D_8x8_R50", "MVITv2_S_16x4", "SLOWONLY_4x16_R50", "X3D_L")
COLUMNS = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]


def published(folder, split, model):
    entry = next(e for e in json.loads((folder / "published_scores.json").read_text()) if e["model"] == model)
    if split == "test":
        return entry["test"]
    return next(epoch for epoch in entry["val"] if epoch["cur_epoch"] == entry["val_file_epoch"])


@pytest.mark.data
@pytest.mark.parametrize(("split", "model"), [("val", m) for m in MODELS] + [("test", m) for m in TESTED])
def test_published_figures(test_data, split, model):
    folder = test_data / "microg4m"
    truth = read_annotations(folder / f"ava_{split}_gt.csv")
    detections = read_detections(folder / f"detections_{split}" / f"{model}.csv.gz")
    scores = evaluate(detections, truth, protocol="published")
    expected = published(folder, split, model)
    many_ties = model.startswith(("MVIT", "X3D"))
    for name in ("f1_macro", "recall_macro", "auroc_macro"):
        assert getattr(scores, name) == pytest.approx(expected[name], abs=5e-4 if many_ties else 5e-5), name
    tolerance = {"test": (5e-5, 0.007), "val": (0.003, 0.008)}[split][many_ties]
    assert scores.map == pytest.approx(expected["map"], abs=tolerance)
    assert scores.map_worst_ties - 1e-5 <= expected["map"] <= scores.map_best_ties + 1e-5
    assert scores.num_classes_with_ground_truth == {"test": 41, "val": 36}[split]
    assert (scores.num_keyframes, scores.num_boxes) == {"test": (1091, 1136), "val": (542, 570)}[split]


def test_the_work_does_not_grow_with_the_keyframes(make_tables):
    few, many = make_tables(0, keyframes=30), make_tables(0, keyframes=600)
    assert calls_of(lambda: evaluate(*many)) < 1.2 * calls_of(lambda: evaluate(*few))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("jitter", [0.0, 0.08])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_a_plain_loop(make_tables, loop_ap, seed, jitter, ties):
    detections, truth = make_tables(seed, ties=ties, jitter=jitter)
    # rows of one box together, so that the file's order is the order of boxes in every class
    detections = detections.sort_values(["video_id", "x1", "action_id"], kind="stable", ignore_index=True)
    scores = evaluate(detections, truth, protocol="published")
    for row in scores.per_class[scores.per_class["support"] > 0].itertuples():
        assert row.ap == pytest.approx(loop_ap(detections, truth, row.action_id)), row.name
    assert scores.map == pytest.approx(np.nanmean([loop_ap(detections, truth, a) for a in (1, 12, 17, 80)]))


@pytest.mark.parametrize("seed", range(4))
def test_published_truth_is_per_frame(make_tables, seed):
    detections, truth = make_tables(seed, keyframes=30)
    scores = evaluate(detections, truth, protocol="published").per_class.set_index("action_id")
    said = {key: set(rows.action_id) for key, rows in truth.groupby(["video_id", "frame_stamp"])}
    for action in (1, 12, 17, 80):
        mine = detections[detections.action_id == action]
        true = [action in said.get(key, ()) for key in zip(mine.video_id, mine.frame_stamp, strict=True)]
        assert scores.f1[action] == pytest.approx(f1_score(true, mine.score >= 0.5, zero_division=0))
        assert scores.recall[action] == pytest.approx(recall_score(true, mine.score >= 0.5, zero_division=0))
        assert scores.auroc[action] == pytest.approx(roc_auc_score(true, mine.score))


def test_published_averages_f1_over_all_classes(make_tables):
    detections, truth = make_tables(0)
    scores = evaluate(detections, truth, protocol="published")
    assert scores.f1_macro == pytest.approx(scores.per_class["f1"].sum() / 50)
    assert scores.num_classes_with_ground_truth == 4


def two_people():
    """Person A stands, person B walks; the detector takes each for what it is."""
    boxes = {"A": (0.0, 0.0, 0.4, 1.0), "B": (0.6, 0.0, 1.0, 1.0)}
    truth = pd.DataFrame([("v_1", 5, *boxes["A"], 12), ("v_1", 5, *boxes["B"], 14)], columns=COLUMNS)
    rows = [("A", 12, 3.0), ("A", 14, -3.0), ("B", 12, -3.0), ("B", 14, 0.2)]
    detections = pd.DataFrame([("v_1", 5, *boxes[b], a, s) for b, a, s in rows], columns=[*COLUMNS, "score"])
    return detections, truth


def test_the_protocols_differ_where_they_should():
    detections, truth = two_people()
    corrected = evaluate(detections, truth).per_class.set_index("action_id")
    assert corrected.recall[[12, 14]].tolist() == [1, 1]
    assert corrected.auroc[[12, 14]].tolist() == [1, 1]
    # Per frame both boxes are both; and a logit of 0.2 is below 0.5 although its probability is above.
    published = evaluate(detections, truth, protocol="published").per_class.set_index("action_id")
    assert published.recall[[12, 14]].tolist() == [0.5, 0]
    assert published.auroc[[12, 14]].isna().all()
    assert published.ap[[12, 14]].tolist() == [1, 1]


def test_probabilities_and_logits_agree_when_corrected(make_tables):
    detections, truth = make_tables(3, keyframes=30)
    logits = evaluate(detections, truth).as_dict(per_class=False)
    detections["score"] = 1 / (1 + np.exp(-detections["score"]))
    probabilities = evaluate(detections, truth, scores="probability").as_dict(per_class=False)
    assert {k: v for k, v in logits.items() if k != "score_kind"} == pytest.approx(
        {k: v for k, v in probabilities.items() if k != "score_kind"}
    )


def test_a_missed_person_is_a_false_negative_when_corrected():
    detections, truth = two_people()
    scores = evaluate(detections[detections.x1 == 0], truth).per_class.set_index("action_id")
    assert scores.recall[[12, 14]].tolist() == [1, 0]
    assert scores.ap[[12, 14]].tolist() == [1, 0]


def test_two_boxes_on_one_person_share_one_truth():
    _, truth = two_people()
    truth = truth.iloc[:1]
    near = (0.0, 0.0, 0.4, 0.9)
    detections = pd.DataFrame(
        [("v_1", 5, *near, 12, 2.0), ("v_1", 5, 0.0, 0.0, 0.4, 1.0, 12, 1.0)], columns=[*COLUMNS, "score"]
    )
    corrected = evaluate(detections, truth).per_class.set_index("action_id")
    # mAP pays the higher score; the person belongs to the box that covers it best, so the other one is wrong.
    assert corrected.ap[12] == 1
    assert corrected.f1[12] == pytest.approx(2 / 3)
    assert corrected.auroc[12] == 0


def test_duplicates_count_once_when_corrected(make_tables):
    detections, truth = make_tables(1)
    again = pd.concat([detections, detections.iloc[:7]], ignore_index=True)
    twice = pd.concat([truth, truth.iloc[:3]], ignore_index=True)
    scores = evaluate(again, twice)
    assert scores.num_duplicates == 10
    assert scores.map == pytest.approx(evaluate(detections, truth).map)
    assert evaluate(again, twice, protocol="published").map < evaluate(detections, truth, protocol="published").map


def test_perfect_detections(make_tables):
    _, truth = make_tables(5)
    boxes = truth.drop_duplicates(COLUMNS[:-1])
    every = boxes.drop(columns="action_id").merge(pd.DataFrame({"action_id": [1, 12, 17, 80]}), how="cross")
    right = every.merge(truth[COLUMNS], on=COLUMNS, how="left", indicator=True)["_merge"] == "both"
    scores = evaluate(every.assign(score=np.where(right, 4.0, -4.0))[[*COLUMNS, "score"]], truth)
    assert scores.map == scores.f1_macro == scores.recall_macro == scores.auroc_macro == 1


def test_keyframes_unknown_to_the_ground_truth_are_false_positives(make_tables):
    detections, truth = make_tables(2)
    stray = detections.assign(video_id="elsewhere_1", score=99.0)
    both = pd.concat([detections, stray], ignore_index=True)
    assert evaluate(both, truth).map < evaluate(detections, truth).map
    assert evaluate(both, truth).num_keyframes == evaluate(detections, truth).num_keyframes


def test_ids_outside_the_taxonomy_are_left_out_and_counted(make_tables):
    detections, truth = make_tables(2, ids=(1, 2, 12))
    scores = evaluate(detections, truth, taxonomy="microg50")
    assert scores.num_ignored == (detections.action_id == 2).sum() + (truth.action_id == 2).sum()
    assert 2 not in set(scores.per_class.action_id)


def test_min_support(make_tables):
    detections, truth = make_tables(4, keyframes=8)
    scores = evaluate(detections, truth)
    table = scores.per_class
    assert scores.map_min_support == pytest.approx(table.loc[table.support >= 5, "ap"].mean())
    assert scores.num_classes_min_support == (table.support >= 5).sum()


def test_groups_are_means_of_their_classes(make_tables):
    detections, truth = make_tables(7)
    scores = evaluate(detections, truth)
    groups = scores.by_group().set_index("group")
    assert groups["map"]["OM"] == pytest.approx(scores.per_class.set_index("action_id").ap[17])
    assert groups["map"]["PM"] == pytest.approx(scores.per_class.set_index("action_id").ap[[1, 12]].mean())
    assert groups["support"].sum() == len(truth)


@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_nothing_detected(make_tables, protocol):
    detections, truth = make_tables(0)
    scores = evaluate(detections.iloc[:0], truth, protocol=protocol)
    assert (scores.map, scores.f1_macro, scores.recall_macro) == (0, 0, 0)


@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_no_ground_truth(make_tables, protocol):
    detections, truth = make_tables(0)
    scores = evaluate(detections, truth.iloc[:0], protocol=protocol)
    assert np.isnan(scores.map)
    assert np.isnan(scores.auroc_macro)
    assert scores.num_classes_with_ground_truth == scores.num_boxes == scores.num_keyframes == 0


@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_nothing_at_all(make_tables, protocol):
    detections, truth = make_tables(0)
    assert np.isnan(evaluate(detections.iloc[:0], truth.iloc[:0], protocol=protocol).map)


def test_one_box_one_class():
    detections, truth = two_people()
    scores = evaluate(detections.iloc[:1], truth.iloc[:1])
    assert (scores.map, scores.f1_macro, scores.recall_macro) == (1, 1, 1)
    assert np.isnan(scores.auroc_macro)


def test_bad_arguments(make_tables):
    detections, truth = make_tables(0)
    with pytest.raises(InputError, match=r"'publish'.*'published'"):
        evaluate(detections, truth, protocol="publish")
    with pytest.raises(InputError, match="scores=logit"):
        evaluate(detections, truth, scores="probability")
    with pytest.raises(InputError, match="scores 'percent'"):
        evaluate(detections, truth, scores="percent")
    with pytest.raises(InputError, match=r"'score'.*action_id, score"):
        evaluate(truth, truth)
    with pytest.raises(InputError, match=r"row 0\b.*\bscore\b.*finite"):
        evaluate(detections.assign(score=np.nan), truth)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), drop=st.floats(0, 0.9), scale=st.floats(0.1, 5), shift=st.floats(-3, 3))
def test_properties(make_tables, seed, drop, scale, shift):
    detections, truth = make_tables(seed, keyframes=6, drop=drop)
    scores = evaluate(detections, truth)
    assume(scores.num_tied_scores == 0)
    # Order is all that mAP and AUROC see, and the order of the file's rows is none of their business.
    moved = detections.assign(score=detections["score"] * scale + shift).sample(frac=1, random_state=seed)
    same = evaluate(moved, truth.sample(frac=1, random_state=seed))
    assert same.map == pytest.approx(scores.map, nan_ok=True)
    assert same.auroc_macro == pytest.approx(scores.auroc_macro, nan_ok=True)
    assert scores.map_worst_ties <= scores.map <= scores.map_best_ties or np.isnan(scores.map)
    table = scores.per_class[["ap", "f1", "recall", "auroc"]]
    assert ((table >= 0) & (table <= 1) | table.isna()).all().all()
    # One more wrong detection with the lowest score of all changes no average precision.
    last = detections.iloc[:1].assign(x1=0.95, x2=0.99, score=-1e9)
    assert evaluate(pd.concat([detections, last]), truth).map == pytest.approx(scores.map, nan_ok=True)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 8), min_size=1, max_size=5))
def test_iou_is_symmetric_and_bounded(rows):
    pairs = np.array(rows)
    a, b = (np.concatenate([p[:, :2], p[:, :2] + p[:, 2:]], axis=1) for p in (pairs[:, :4], pairs[:, 4:]))
    np.testing.assert_array_equal(paired_iou(a, b), paired_iou(b, a))
    assert ((paired_iou(a, b) >= 0) & (paired_iou(a, b) <= 1 + 1e-12)).all()
    solid = (a[:, 2:] > a[:, :2]).all(axis=1) & ((a[:, 2:] - a[:, :2]).prod(axis=1) > 1e-300)
    np.testing.assert_allclose(paired_iou(a, a)[solid], 1)


def test_scores_as_plain_values(make_tables):
    values = evaluate(*make_tables(0)).as_dict()
    assert json.loads(json.dumps(values, allow_nan=True))["num_boxes"] == values["num_boxes"]
    assert [row["action_id"] for row in values["per_class"]] == list(get_taxonomy("microg50").ids)


def test_evaluation_imports_no_torch():
    code = "import sys, microg_da.evaluation; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
