"""Complete fusion of the detections of several models into one table of calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd

from microg_da.data.annotations import KEYFRAME
from microg_da.data.score_kinds import ScoreKind
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import InputError
from microg_da.evaluation.alignment import Aligned, BoxCounts, align, to_table
from microg_da.evaluation.calibration import Calibration, fit_calibration
from microg_da.evaluation.checks import require_common_keyframes
from microg_da.evaluation.logistic import sigmoid
from microg_da.evaluation.logit_fusion import Fusion, cross_fused, fit_fusion, grouped_folds
from microg_da.evaluation.outcomes import truth_of_boxes
from microg_da.evaluation.protocols import Scores, evaluate_part
from microg_da.taxonomy import Taxonomy, get_taxonomy

RULED_OUT = -20.0


class ModelReport(BoxCounts):
    """The counts of a model, and its name."""

    name: str


class FitReport(TypedDict):
    """Contents of the fit set, and macro scores (fractions) of the cross-validation on it."""

    num_boxes: int
    num_folds: int
    num_positives: int
    classes_without_positives: int
    cross_validated: dict[str, float]


class FusionReport(TypedDict, total=False):
    """Report of a fusion, for JSON: ``fit`` is absent where nothing was fitted.

    ``weights`` are by model name, ``thresholds`` by action id.
    """

    method: str
    calibrate: str
    models: list[ModelReport]
    fit: FitReport
    weights: dict[str, float]
    regularisation: dict[str, float]
    classes_bend_weights: bool
    scale: float
    thresholds: dict[str, float]
    num_boxes: int
    num_unseen_boxes: int


@dataclass(frozen=True)
class Fused:
    """A table of detections with probabilities, and the fitted parameters as plain values."""

    detections: pd.DataFrame
    report: FusionReport


@dataclass(frozen=True)
class _FitSet:
    boxes: pd.DataFrame
    logits: np.ndarray
    labels: np.ndarray
    folds: np.ndarray


def fuse(
    detections: Sequence[pd.DataFrame],
    *,
    fit_detections: Sequence[pd.DataFrame] = (),
    fit_ground_truth: pd.DataFrame | None = None,
    method: str | None = None,
    calibrate: str | None = None,
    taxonomy: str | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
    names: Sequence[str] | None = None,
) -> Fused:
    """Fuse detections; parameters are fitted on the fit set, with folds that share no source video.

    Args:
        detections: one table per model.
        fit_detections: detections of the same models, in the same order, on the fit set.
        fit_ground_truth: annotations of the fit set.
        method: see :data:`~microg_da.evaluation.logit_fusion.METHODS`; by default ``"weighted"`` with a fit set and
            ``"mean"`` without.
        calibrate: see :data:`~microg_da.evaluation.calibration.CALIBRATIONS`; by default ``"thresholds"`` with a
            fit set and ``"none"`` without.
        taxonomy: the classes.
        scores: kind of the scores of all tables; None for the kind that each file declares, else logits.
        names: names of the models, for the report.

    Raises:
        InputError: if a method needs a fit set and there is none, or fit set and detections do not match.
    """
    taxonomy = get_taxonomy(taxonomy)
    names = list(names) if names is not None else [f"model {i}" for i in range(len(detections))]
    can_learn = bool(fit_detections) and fit_ground_truth is not None
    method = method or ("weighted" if can_learn else "mean")
    calibrate = calibrate or ("thresholds" if can_learn else "none")
    if not can_learn and (method != "mean" or calibrate != "none"):
        raise InputError(
            f"method {method!r} with calibration {calibrate!r} needs a fit set. Give detections and ground truth "
            "of a fit set, or use method 'mean' with calibration 'none'"
        )
    if can_learn and len(fit_detections) != len(detections):
        raise InputError(
            f"{len(detections)} detections but {len(fit_detections)} fit detections; expected one of each per model"
        )
    aligned = align(detections, taxonomy, scores)
    unsaid = np.isnan(aligned.logits).any(axis=0)
    logits = np.where(unsaid, RULED_OUT, aligned.logits)
    report: FusionReport = {"method": method, "calibrate": calibrate, "models": _describe(names, aligned)}
    if can_learn and fit_ground_truth is not None:
        fit = _fit_set(align(fit_detections, taxonomy, scores), fit_ground_truth, taxonomy)
        fusion = fit_fusion(method, fit.logits, fit.labels, fit.folds)
        fused = fusion(logits)
        held_out = cross_fused(fusion, fit.logits, fit.labels, fit.folds)
        calibration = fit_calibration(calibrate, held_out, fit.labels, fused)
        report["fit"] = _describe_fit(fit, fit_ground_truth, held_out, calibrate, taxonomy)
    else:
        fusion = fit_fusion("mean", logits, np.zeros((0, 0), dtype=bool), np.zeros(0))
        fused, calibration = fusion(logits), Calibration("none", 1.0, np.zeros(len(taxonomy)))
    report.update(_describe_learned(names, taxonomy, fusion, calibration))
    report["num_boxes"] = len(aligned.boxes)
    report["num_unseen_boxes"] = int((~aligned.seen).sum())
    probabilities = np.where(unsaid, np.nan, calibration(fused))
    table = to_table(aligned.boxes, probabilities, taxonomy)
    table.attrs["scores"] = "probability"
    return Fused(table, report)


def _fit_set(aligned: Aligned, ground_truth: pd.DataFrame, taxonomy: Taxonomy) -> _FitSet:
    """Return the boxes that any model saw. Classes without scores get a probability of 0."""
    kept = aligned.seen
    boxes = aligned.boxes[kept].reset_index(drop=True)
    if boxes.empty:
        raise InputError("no model has a detection of a box in the fit set, so all scores are constant")
    require_common_keyframes(boxes, ground_truth)
    labels = truth_of_boxes(boxes, ground_truth, taxonomy)
    folds = grouped_folds(source_videos_of(boxes, ground_truth).to_numpy(object))
    logits = aligned.logits[:, kept]
    return _FitSet(boxes, np.where(np.isnan(logits), RULED_OUT, logits), labels, folds)


def _describe(names: Sequence[str], aligned: Aligned) -> list[ModelReport]:
    return [{"name": name, **counts} for name, counts in zip(names, aligned.counts, strict=True)]


def _describe_learned(
    names: Sequence[str], taxonomy: Taxonomy, fusion: Fusion, calibration: Calibration
) -> FusionReport:
    return {
        "weights": dict(zip(names, fusion.weights.tolist(), strict=True)),
        "regularisation": {name: value for name, value in fusion.chosen.items() if np.isfinite(value)},
        "classes_bend_weights": fusion.deviations is not None,
        "scale": calibration.scale,
        "thresholds": dict(zip(map(str, taxonomy.ids), calibration.threshold.tolist(), strict=True)),
    }


def _describe_fit(
    fit: _FitSet, ground_truth: pd.DataFrame, held_out: np.ndarray, calibrate: str, taxonomy: Taxonomy
) -> FitReport:
    """Expected scores by cross-validation on the fit set, with calibration learned out of fold as well.

    mAP and AUROC are those of the fused logits. One calibration does not change them, but pooling folds with different
    calibrations would.
    """
    margin = np.zeros(held_out.shape)
    for fold in np.unique(fit.folds):
        out = fit.folds == fold
        learn = ~out if fit.labels[~out].any() else np.ones_like(out)
        calibration = fit_calibration(calibrate, held_out[learn], fit.labels[learn], held_out[out])
        margin[out] = calibration.margin(held_out[out])
    keyframes = ground_truth.merge(fit.boxes[KEYFRAME].drop_duplicates(), on=KEYFRAME)

    def score(values: np.ndarray, kind: ScoreKind) -> Scores:
        table = to_table(fit.boxes, values, taxonomy)
        return evaluate_part(table, keyframes, protocol="published", taxonomy=taxonomy, scores=kind)

    order, decision = score(held_out, "logit"), score(sigmoid(margin), "probability")
    expected = {
        "map": order.map,
        "f1_macro": decision.f1_macro,
        "recall_macro": decision.recall_macro,
        "auroc_macro": order.auroc_macro,
        "num_classes_with_ground_truth": order.num_classes_with_ground_truth,
    }
    return {
        "num_boxes": len(fit.boxes),
        "num_folds": int(fit.folds.max()) + 1,
        "num_positives": int(fit.labels.sum()),
        "classes_without_positives": int((fit.labels.sum(axis=0) == 0).sum()),
        "cross_validated": expected,
    }
