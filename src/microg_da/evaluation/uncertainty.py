"""Uncertainty of scores: bootstrap over source videos, for one set of detections or for many at once.

Clips of one source video show the same people in the same place and are therefore drawn together. Drawing single
keyframes would treat them as independent, and intervals would be too narrow. All scores are functions of the counts of
clusters, so that all resamples are computed at once by matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from microg_da.data.score_kinds import ScoreKind
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import InputError, unknown_name
from microg_da.evaluation.checks import score_kind
from microg_da.evaluation.classwise import divide, divide_or_zero
from microg_da.evaluation.outcomes import Outcomes
from microg_da.evaluation.protocols import Protocol, get_protocol, prepare
from microg_da.taxonomy import Taxonomy, get_taxonomy

METRICS = ("map", "f1_macro", "recall_macro", "auroc_macro")
PER_CLASS = dict(zip(METRICS, ("ap", "f1", "recall", "auroc"), strict=True))
RESAMPLES = 2000
LEVEL = 0.95
ClusterBy = Literal["source", "keyframe"]


@dataclass(frozen=True)
class Clustered:
    """Outcomes with the cluster of each row and label.

    Attributes:
        scores: (R, C), −inf without a score.
        matched: (R, C) bool, true positives of mAP.
        truth: (R, C) bool.
        predicted: (R, C) bool.
        cluster: (R,) index of the cluster.
        labels: (V, C) labels of each class in each of the V clusters.
    """

    scores: np.ndarray
    matched: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    cluster: np.ndarray
    labels: np.ndarray


class Resampled(NamedTuple):
    """(B,) macro scores and (B, C) scores of classes, NaN where a resample has no label of the class."""

    macro: np.ndarray
    per_class: np.ndarray


@dataclass(frozen=True)
class Bootstrap:
    """Scores of all resamples.

    Attributes:
        point: for each of :data:`METRICS`, the score of the original data.
        macro: for each of :data:`METRICS`, (B,) values.
        per_class: for each of :data:`METRICS`, (B, C) values, NaN where undefined.
        class_point: for each of :data:`METRICS`, (C,) values of the original data.
        num_clusters: number of resampled clusters.
    """

    point: dict[str, float]
    macro: dict[str, np.ndarray]
    per_class: dict[str, np.ndarray]
    class_point: dict[str, np.ndarray]
    num_clusters: int

    def intervals(self, level: float = LEVEL) -> dict[str, tuple[float, float]]:
        """Interval of each macro score, see :func:`interval`."""
        return {name: interval(values, self.point[name], level) for name, values in self.macro.items()}

    def class_intervals(self, level: float = LEVEL) -> pd.DataFrame:
        """``ap_low, ap_high, f1_low …`` for each class, in the taxonomy's order."""
        columns = {}
        for name, values in self.per_class.items():
            pairs = zip(values.T, self.class_point[name], strict=True)
            bounds = np.array([interval(column, float(point), level) for column, point in pairs])
            columns[f"{PER_CLASS[name]}_low"], columns[f"{PER_CLASS[name]}_high"] = bounds.T
        return pd.DataFrame(columns)


def bootstrap(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    protocol: str | Protocol = "corrected",
    taxonomy: str | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
    cluster_by: ClusterBy = "source",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Resample clusters with replacement and score each resample as if it were the data.

    Args:
        detections: table of detections.
        ground_truth: table of annotations.
        protocol: as in :func:`~microg_da.evaluation.evaluate`.
        taxonomy: likewise.
        scores: likewise.
        cluster_by: ``"source"`` draws source videos, ``"keyframe"`` draws single keyframes.
        resamples: number of resamples.
        seed: seed of the draws; it gives the same clusters for all detections of the same ground truth.

    Raises:
        InputError: if the ground truth is empty, and as :func:`~microg_da.evaluation.evaluate`.
    """
    protocol, taxonomy = get_protocol(protocol), get_taxonomy(taxonomy)
    scores = score_kind(detections, scores)
    outcomes, _ = prepare(detections, ground_truth, protocol, taxonomy, scores)
    names = cluster_names(ground_truth, cluster_by)
    clustered = cluster(outcomes, protocol.threshold(scores), names, cluster_by)
    weights = np.concatenate([np.ones((1, len(names) + 1)), draw(len(names), resamples, seed)])
    found = {name: weighted_scores(clustered, weights, protocol.all_classes, name) for name in METRICS}
    return Bootstrap(
        point={name: float(values.macro[0]) for name, values in found.items()},
        macro={name: values.macro[1:] for name, values in found.items()},
        per_class={name: values.per_class[1:] for name, values in found.items()},
        class_point={name: values.per_class[0] for name, values in found.items()},
        num_clusters=len(names),
    )


def cluster_names(ground_truth: pd.DataFrame, by: ClusterBy) -> list[str]:
    """The clusters of a ground truth, sorted."""
    if by not in ("source", "keyframe"):
        raise unknown_name("cluster", by, ("source", "keyframe"))
    if ground_truth.empty:
        raise InputError("the ground truth is empty, so that nothing can be resampled")
    return sorted(set(_cluster_of(ground_truth, by)))


def cluster(outcomes: Outcomes, threshold: float, names: list[str], by: ClusterBy) -> Clustered:
    """Attach clusters; rows of unknown clusters get an additional one, which each resample contains once."""
    index = {name: i for i, name in enumerate(names)}
    of_keyframe = np.array([index.get(name, len(names)) for name in _cluster_of(outcomes.keyframes, by)], dtype=int)
    labels = np.zeros((len(names) + 1, outcomes.scores.shape[1]))
    np.add.at(labels, (of_keyframe[outcomes.label_keyframe], outcomes.label_class), 1)
    return Clustered(
        scores=outcomes.scores,
        matched=outcomes.matched,
        truth=outcomes.truth,
        predicted=outcomes.scores >= threshold,
        cluster=of_keyframe[outcomes.row_keyframe],
        labels=labels,
    )


def draw(num_clusters: int, resamples: int, seed: int) -> np.ndarray:
    """Return (B, V + 1) counts of clusters in resamples; the last column, for rows without a cluster, is 1."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=resamples)
    return np.concatenate([counts, np.ones((resamples, 1))], axis=1).astype(np.float64)


def weighted_scores(data: Clustered, weights: np.ndarray, all_classes: bool, metric: str) -> Resampled:
    """Compute a metric with weight ``weights[:, v]`` of cluster v.

    Averages are over the classes with labels in the resample. If a protocol averages over all classes, the mean is
    scaled by the fraction of classes with labels in the data, so that a class that is missing from a resample does not
    count as 0.
    """
    # Counts are small integers, which are exact in single precision.
    weights = weights.astype(np.float32)
    present = weights @ data.labels.astype(np.float32) > 0
    if metric == "map":
        values = _by_class(_average_precision, data, weights)
    elif metric == "auroc_macro":
        values = _by_class(_auroc, data, weights)
    else:
        values = _f1_or_recall(data, weights, metric)
    share = (data.labels.sum(axis=0) > 0).mean() if all_classes and metric in ("f1_macro", "recall_macro") else 1.0
    values = np.where(present, values, np.nan)
    return Resampled(share * _nan_mean(values), values)


def _by_class(function: Callable[..., np.ndarray], data: Clustered, weights: np.ndarray) -> np.ndarray:
    return np.stack([function(data, column, weights) for column in range(data.scores.shape[1])], axis=1)


def _f1_or_recall(data: Clustered, weights: np.ndarray, metric: str) -> np.ndarray:
    positives = weights @ _per_cluster(data.truth, data)
    hits = weights @ _per_cluster(data.predicted & data.truth, data)
    if metric == "recall_macro":
        return divide_or_zero(hits, positives)
    return divide_or_zero(2 * hits, positives + weights @ _per_cluster(data.predicted, data))


def interval(values: np.ndarray, point: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the bias-corrected percentile interval (Efron, Can. J. Statist. 1981); NaN if undefined.

    Resamples repeat clusters and lose rare classes, which increases the mean of average precisions. The percentiles are
    corrected by the rank of the point estimate among the resamples. If the point is outside all resamples, as may
    happen with few clusters, the interval is extended to it.

    Args:
        values: the score of each resample; NaN values are ignored.
        point: the score of the original data.
        level: confidence level.
    """
    values = values[~np.isnan(values)]
    if not values.size or np.isnan(point):
        return float("nan"), float("nan")
    normal = NormalDist()
    below = ((values < point).mean() + (values <= point).mean()) / 2
    shift = normal.inv_cdf(float(np.clip(below, 1e-3, 1 - 1e-3)))
    tail = normal.inv_cdf((1 + level) / 2)
    low, high = np.quantile(values, [normal.cdf(2 * shift - tail), normal.cdf(2 * shift + tail)])
    return min(float(low), point), max(float(high), point)


def _cluster_of(table: pd.DataFrame, by: ClusterBy) -> pd.Series:
    if by == "source":
        return source_videos_of(table, table)
    return table["video_id"].astype(str) + "@" + table["frame_stamp"].astype(str)


def _average_precision(data: Clustered, column: int, weights: np.ndarray) -> np.ndarray:
    """(B,) average precision of one class.

    It depends only on the ranks of true positives and on the number of higher rows of each cluster.
    """
    scores = data.scores[:, column]
    rows = np.flatnonzero(np.isfinite(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    ranks = np.flatnonzero(data.matched[rows, column])
    support = weights @ data.labels[:, column]
    if not ranks.size:
        return np.where(support > 0, 0.0, np.nan)
    above = _counts_up_to(ranks, data.cluster[rows], weights.shape[1])
    hit_weight = weights[:, data.cluster[rows[ranks]]]
    precision = np.cumsum(hit_weight, axis=1) / np.maximum(weights @ above.T, 1e-6)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return divide((envelope * hit_weight).sum(axis=1), support)


def _auroc(data: Clustered, column: int, weights: np.ndarray) -> np.ndarray:
    """Return (B,) AUROC of one class, from the negatives of each cluster with lower scores than each positive."""
    scores, truth = data.scores[:, column], data.truth[:, column]
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    if not positive.size or not negative.size:
        return np.full(len(weights), np.nan)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = _cumulative(data.cluster[negative], weights.shape[1])
    left, right = (np.searchsorted(scores[negative], scores[positive], side=side) for side in ("left", "right"))
    beaten = 0.5 * (below[left] + below[right])
    positive_weight = weights[:, data.cluster[positive]]
    wins = (positive_weight * (weights @ beaten.T)).sum(axis=1)
    return divide(wins, positive_weight.sum(axis=1) * (weights @ below[-1]))


def _cumulative(clusters: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return (N + 1, V) counts of each cluster among the first n rows."""
    counts = np.zeros((len(clusters) + 1, num_clusters), dtype=np.float32)
    counts[np.arange(1, len(clusters) + 1), clusters] = 1
    return np.cumsum(counts, axis=0)


def _counts_up_to(ranks: np.ndarray, clusters: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return (K, V) counts of the rows of each cluster up to each of K ascending ranks."""
    first = np.searchsorted(ranks, np.arange(ranks[-1] + 1))  # the first rank that includes the row
    cells = np.bincount(first * num_clusters + clusters[: ranks[-1] + 1], minlength=len(ranks) * num_clusters)
    return np.cumsum(cells.reshape(len(ranks), num_clusters).astype(np.float32), axis=0)


def _per_cluster(table: np.ndarray, data: Clustered) -> np.ndarray:
    summed: np.ndarray = (np.arange(len(data.labels))[:, None] == data.cluster).astype(np.float32) @ table.astype(
        np.float32
    )
    return summed


def _nan_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))
