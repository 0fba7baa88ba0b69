"""Uncertainty of scores: bootstrap over source videos, for one set of detections or for many at once.

Clips of one source video show the same people in the same place, so they are drawn together; drawing keyframes
one by one pretends that they are independent and makes intervals too narrow. Every score is linear or nearly so
in how often each cluster was drawn, so all resamples are computed at once, by matrix products.
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
    """Outcomes with the cluster of every row and label, ready to be weighted.

    Attributes:
        scores: (R, C), −inf where nothing was said.
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
    """Scores of every resample.

    Attributes:
        point: for each of :data:`METRICS`, the score of the data themselves.
        macro: for each of :data:`METRICS`, (B,) values.
        per_class: for each of :data:`METRICS`, (B, C) values, NaN where undefined.
        class_point: for each of :data:`METRICS`, (C,) values of the data themselves.
        num_clusters: how many clusters were drawn from.
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
        cluster_by: ``"source"`` draws source videos, ``"keyframe"`` draws keyframes one by one.
        resamples: how many.
        seed: of the draws; the same seed draws the same clusters for other detections of the same ground truth.

    Raises:
        InputError: if there is nothing to draw from, or as :func:`~microg_da.evaluation.evaluate` does.
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
        raise InputError("the ground truth is empty; there is nothing to resample")
    return sorted(set(_cluster_of(ground_truth, by)))


def cluster(outcomes: Outcomes, threshold: float, names: list[str], by: ClusterBy) -> Clustered:
    """Attach clusters; rows on keyframes of no known cluster get one more, which every resample holds once."""
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
    """(B, V + 1) how often each cluster is in each resample; the last column is 1, for what has no cluster."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=resamples)
    return np.concatenate([counts, np.ones((resamples, 1))], axis=1).astype(np.float64)


def weighted_scores(data: Clustered, weights: np.ndarray, all_classes: bool, metric: str) -> Resampled:
    """One metric where cluster v counts ``weights[:, v]`` times.

    Averages are over the classes that a resample has labels of. Where a protocol averages over all classes, the
    mean is scaled by the share of classes that have labels at all: a class that a resample happens to miss must
    not count as failed.
    """
    # Counts are small integers, which single precision holds exactly.
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
    """The bias-corrected percentile interval (Efron, Can. J. Statist. 1981), with the point; NaN if nothing is defined.

    Resamples repeat clusters and lose rare classes, which shifts an average of average precisions upwards; the
    percentiles are moved by as much as the point estimate is off the middle of the resamples. Where few clusters put
    the point outside of all resamples, the interval is stretched to it.

    Args:
        values: the score of each resample; NaN is left out.
        point: the score of the data themselves.
        level: how much the interval is to hold.
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

    Only the ranks of true positives matter, and how many rows of each cluster stand above them.
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
    """(B,) AUROC of one class: of each positive, the negatives of each cluster that it outscores."""
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
    """(N + 1, V): how many of the first n rows are of each cluster."""
    counts = np.zeros((len(clusters) + 1, num_clusters), dtype=np.float32)
    counts[np.arange(1, len(clusters) + 1), clusters] = 1
    return np.cumsum(counts, axis=0)


def _counts_up_to(ranks: np.ndarray, clusters: np.ndarray, num_clusters: int) -> np.ndarray:
    """(K, V): how many rows of each cluster stand at each of K ascending ranks or above it."""
    first = np.searchsorted(ranks, np.arange(ranks[-1] + 1))  # the first of the ranks that a row counts for
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
