"""Alignment, fusion and calibration against what they must never change and against independent fits."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from microg_da.data.annotations import read_annotations, read_detections
from microg_da.errors import InputError
from microg_da.evaluation import evaluate
from microg_da.evaluation.alignment import align, to_table
from microg_da.evaluation.calibration import CALIBRATIONS, bbse_prior, em_prior, fit_calibration
from microg_da.evaluation.fusion import fuse
from microg_da.evaluation.logistic import fit_shared, sigmoid
from microg_da.evaluation.logit_fusion import combine, fit_fusion, grouped_folds
from microg_da.evaluation.outcomes import truth_of_boxes
from microg_da.taxonomy import get_taxonomy

MICROG = get_taxonomy("microg50")
KEY = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]


def benchmark(seed, boxes=160, strengths=(2.5, 1.5, 0.0)):
    """Ground truth of one person a clip, and models that see it more or less well."""
    rng = np.random.default_rng(seed)
    frequency = np.linspace(0.02, 0.5, 50)
    labels = rng.random((boxes, 50)) < frequency
    table = pd.DataFrame({"video_id": [f"s{i % 12}_{i}" for i in range(boxes)], "frame_stamp": 52})
    table[["x1", "y1"]] = rng.uniform(0, 0.4, (boxes, 2)).round(3)
    table[["x2", "y2"]] = rng.uniform(0.6, 1, (boxes, 2)).round(3)
    base = np.log(frequency / (1 - frequency))
    models = [
        to_table(table, (base + s * (labels - frequency) + rng.normal(size=labels.shape)).round(4), MICROG)
        for s in strengths
    ]
    truth = to_table(table, np.where(labels, 1.0, np.nan), MICROG).drop(columns="score").assign(person_id=1)
    return models, truth, labels


def test_alignment_ignores_order_and_small_moves():
    (a, b, _), _, _ = benchmark(0)
    moved = b.sample(frac=1, random_state=1)
    moved["x1"] += 0.003
    aligned = align([a, moved], MICROG)
    straight = align([a, b], MICROG)
    np.testing.assert_array_equal(aligned.logits, straight.logits)
    pd.testing.assert_frame_equal(aligned.boxes, straight.boxes)
    assert aligned.counts[1] == {
        "boxes": 160,
        "missing": 0,
        "extra": 0,
        "blind": 0,
        "repeated_rows": 0,
        "ignored_rows": 0,
    }


def test_missing_extra_and_repeated_boxes_are_counted():
    (a, b, _), _, _ = benchmark(0)
    far = b.iloc[-50:].assign(video_id="elsewhere_1")
    b = pd.concat([b.iloc[50:], far, b.iloc[50:60]])
    aligned = align([a, b], MICROG)
    assert aligned.counts[0]["missing"] == aligned.counts[1]["extra"] == 1
    assert aligned.counts[1]["missing"] == aligned.counts[0]["extra"] == 1
    assert aligned.counts[1]["repeated_rows"] == 10
    np.testing.assert_array_equal(aligned.logits[0][0], aligned.logits[1][0])  # filled with what the other says


def test_a_constant_vector_is_no_opinion():
    (a, b, _), _, _ = benchmark(0)
    b = b.copy()
    b.loc[:149, "score"] = np.tile(b["score"].to_numpy()[:50], 3)
    aligned = align([a, b], MICROG)
    assert aligned.counts[1]["blind"] == 3
    np.testing.assert_array_equal(aligned.logits[1][:3], aligned.logits[0][:3])
    assert aligned.seen.all()
    assert align([b], MICROG).seen.sum() == len(aligned.boxes) - 3


def test_shared_weights_equal_sklearn_for_one_class():
    (a, b, _), _, labels = benchmark(3)
    logits = align([a, b], MICROG).logits[:, :, 40:41]
    fit = fit_shared(logits, labels[:, 40:41], class_pull=1e6)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, :, 0].T, labels[:, 40])
    np.testing.assert_allclose(fit.weights, reference.coef_[0], rtol=1e-3)
    assert fit.bias + fit.class_bias[0] == pytest.approx(reference.intercept_[0], rel=1e-3)


def test_a_model_of_noise_gets_no_weight_and_fusion_beats_each():
    models, truth, labels = benchmark(4, strengths=(2.0, 2.0, 0.0))
    aligned = align(models, MICROG)
    folds = grouped_folds(aligned.boxes["video_id"].str.split("_").str[0].to_numpy(object))
    fusion = fit_fusion("weighted", aligned.logits, labels, folds)
    assert fusion.weights[2] < 0.1
    assert fusion.weights.sum() == pytest.approx(1)
    fused = evaluate(to_table(aligned.boxes, fusion(aligned.logits), MICROG), truth).map
    assert fused > max(evaluate(model, truth).map for model in models)


def test_combine_is_a_mean_of_probabilities():
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)) * 5
    np.testing.assert_allclose(sigmoid(combine(np.full(3, 1 / 3), logits)), sigmoid(logits).mean(axis=0))
    assert np.isfinite(combine(np.full(3, 1 / 3), logits * 200)).all()


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_calibration_keeps_the_order_of_every_class(method):
    models, truth, labels = benchmark(5)
    aligned = align(models[:1], MICROG)
    logits = aligned.logits[0]
    before = to_table(aligned.boxes, logits, MICROG)
    calibration = fit_calibration(method, logits, labels, logits)
    after = to_table(aligned.boxes, calibration(logits), MICROG)
    assert after["score"].between(0, 1).all()
    pd.testing.assert_series_equal(
        evaluate(after, truth, scores="probability").per_class["ap"], evaluate(before, truth).per_class["ap"]
    )


def test_extreme_logits_stay_apart():
    calibration = fit_calibration("none", np.zeros((1, 50)), np.zeros((1, 50), dtype=bool))
    z = np.sort(np.random.default_rng(0).uniform(-60, 60, (300, 50)), axis=0)
    assert (np.diff(calibration(z), axis=0) > 0).all()


def test_temperature_recovers_what_was_done_to_the_logits():
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, (4000, 50))
    labels = rng.random(z.shape) < sigmoid(z)
    calibration = fit_calibration("temperature", 3 * z + 1, labels)
    assert calibration.scale == pytest.approx(1 / 3, rel=0.03)
    np.testing.assert_allclose(calibration.threshold, 1.0, atol=0.1)


def test_thresholds_improve_f1_and_do_not_trust_single_examples():
    models, _, labels = benchmark(6, boxes=300)
    logits = align(models[:1], MICROG).logits[0]
    thresholds = fit_calibration("thresholds", logits, labels)
    plain = fit_calibration("temperature", logits, labels)

    def f1(calibration):
        predicted = calibration(logits) >= 0.5
        hits = (predicted & labels).sum(axis=0)
        return (2 * hits / np.maximum(predicted.sum(axis=0) + labels.sum(axis=0), 1)).mean()

    assert f1(thresholds) > f1(plain) + 0.02
    nothing = labels.copy()
    nothing[:, :3] = False
    assert np.isfinite(fit_calibration("thresholds", logits, nothing).threshold).all()


@pytest.mark.parametrize("estimate", [em_prior, bbse_prior])
def test_shifted_class_frequencies_are_found(estimate):
    rng = np.random.default_rng(1)
    source, target = np.full(50, 0.2), np.linspace(0.1, 0.5, 50)

    def draw(prior):
        labels = rng.random((6000, 50)) < prior
        # Two normals one apart in units of their variance: the log-likelihood ratio is 3x − 4.5.
        return 3 * (3 * labels + rng.normal(size=labels.shape)) - 4.5 + np.log(0.2 / 0.8)

    np.testing.assert_allclose(estimate(draw(source), draw(target), source), target, atol=0.03)


def test_folds_never_split_a_group():
    groups = np.random.default_rng(0).integers(0, 20, 300).astype(str).astype(object)
    folds = grouped_folds(groups)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    assert np.bincount(folds).max() < 1.3 * np.bincount(folds).min()


def test_truth_of_boxes_follows_the_person():
    _, truth, labels = benchmark(7)
    boxes = truth.drop_duplicates(KEY[:6])[KEY[:6]].reset_index(drop=True)
    found = truth_of_boxes(boxes, truth, MICROG)
    number = boxes["video_id"].str.split("_").str[1].astype(int).to_numpy()
    np.testing.assert_array_equal(found, labels[number])


def test_fuse_without_labels_is_the_mean():
    (a, b, _), _, _ = benchmark(0)
    fused = fuse([a, b]).detections
    expected = (a["score"] + b["score"]) / 2
    np.testing.assert_array_equal(fused["score"] >= 0.5, expected >= 0)
    assert (np.diff(fused["score"].to_numpy()[np.argsort(expected)]) >= -1e-12).all()


def test_fusing_never_looks_at_labels_of_what_is_fused():
    fit, fit_truth, _ = benchmark(1)
    target, _, _ = benchmark(2)
    once = fuse(target, fit_detections=fit, fit_ground_truth=fit_truth)
    half = [model[model["video_id"].str.startswith("s1_")] for model in target]
    again = fuse(half, fit_detections=fit, fit_ground_truth=fit_truth)
    both = once.detections.merge(again.detections, on=KEY)
    assert len(both) == len(again.detections) > 0
    np.testing.assert_array_equal(both["score_x"], both["score_y"])
    assert 0 < once.report["fit"]["cross_validated"]["map"] < 1


def test_bad_input():
    models, truth, _ = benchmark(0)
    with pytest.raises(InputError, match=r"'stack'.*'none'"):
        fuse(models, method="stack")
    with pytest.raises(InputError, match=r"\b3 detections\b.*\b1 fit"):
        fuse(models, fit_detections=models[:1], fit_ground_truth=truth)
    with pytest.raises(InputError, match=r"'weights'.*'weighted'"):
        fuse(models, fit_detections=models, fit_ground_truth=truth, method="weights")
    with pytest.raises(InputError, match="calibration 'platt'"):
        fuse(models, fit_detections=models, fit_ground_truth=truth, calibrate="platt")
    with pytest.raises(InputError, match="no detections"):
        fuse([models[0].iloc[:0]])


@pytest.mark.data
def test_real_fusion_is_calibrated_for_f1(test_data):
    folder = test_data / "microg4m"
    names = ("C2D_8x8_R50", "MVITv2_S_16x4", "SLOWONLY_4x16_R50", "X3D_L")
    test, val = (
        [read_detections(folder / split / f"{name}.csv.gz") for name in names]
        for split in ("detections_test", "detections_val")
    )
    truth = read_annotations(folder / "ava_test_gt.csv")
    fused = fuse(test, fit_detections=val, fit_ground_truth=read_annotations(folder / "ava_val_gt.csv"))
    scores = evaluate(fused.detections, truth, protocol="published", scores="probability")
    best = evaluate(test[2], truth, protocol="published")
    assert scores.f1_macro > best.f1_macro + 0.05
    assert scores.recall_macro > best.recall_macro + 0.10
    assert scores.auroc_macro > best.auroc_macro + 0.005
    assert [model["blind"] for model in fused.report["models"]] == [0, 108, 0, 114]
