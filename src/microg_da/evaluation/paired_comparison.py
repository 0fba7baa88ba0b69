"""Comparison of several sets of detections with significance tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from microg_da.data.score_kinds import ScoreKind
from microg_da.errors import InputError, unknown_name
from microg_da.evaluation.checks import require_common_keyframes, score_kind, warn_if_unclear
from microg_da.evaluation.protocols import Protocol, get_protocol, prepare
from microg_da.evaluation.uncertainty import (
    LEVEL,
    METRICS,
    RESAMPLES,
    ClusterBy,
    Clustered,
    cluster,
    cluster_names,
    draw,
    interval,
    weighted_scores,
)
from microg_da.taxonomy import Taxonomy, get_taxonomy


@dataclass(frozen=True)
class Comparison:
    """Scores with intervals, and the differences of all pairs with intervals and p-values.

    Attributes:
        metric: the metric of the ranking.
        models: best first: ``model, value, low, high, best_rank, worst_rank``; models with overlapping ranges of ranks
            do not differ significantly.
        pairs: ``a, b, difference, low, high, p, p_holm``: a − b, interval of the paired bootstrap, p-value of
            the permutation test and after Holm's correction over all pairs.
        num_clusters: number of resampled clusters.
    """

    metric: str
    models: pd.DataFrame
    pairs: pd.DataFrame
    num_clusters: int


def compare(
    detections: Mapping[str, pd.DataFrame],
    ground_truth: pd.DataFrame,
    *,
    metric: str = "map",
    protocol: str | Protocol = "corrected",
    taxonomy: str | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
    cluster_by: ClusterBy = "source",
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare models on the same ground truth.

    The bootstrap draws the same clusters for all models, so that the difficulty of a cluster for all models cancels in
    the difference. The permutation test exchanges the detections of two models in random clusters; scores are first
    replaced by their ranks within model and class, since the logits of two models may have different scales.

    Args:
        detections: a table for each model.
        ground_truth: table of annotations.
        metric: one of :data:`~microg_da.evaluation.uncertainty.METRICS`.
        protocol: as in :func:`~microg_da.evaluation.evaluate`.
        taxonomy: likewise.
        scores: likewise, for each table.
        cluster_by: as in :func:`~microg_da.evaluation.uncertainty.bootstrap`.
        resamples: number of resamples of the bootstrap and of permutations of the test.
        level: confidence level of the intervals.
        alpha: the family-wise error rate over all pairs for the ranks.
        seed: seed of both.

    Raises:
        InputError: for fewer than two models or an unknown metric, or as :func:`~microg_da.evaluation.evaluate` does.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if len(detections) < 2:
        raise InputError("a comparison needs the detections of at least two models")
    protocol, taxonomy = get_protocol(protocol), get_taxonomy(taxonomy)
    names = cluster_names(ground_truth, cluster_by)
    weights = np.concatenate([np.ones((1, len(names) + 1)), draw(len(names), resamples, seed)])
    data, values = {}, {}
    for name, table in detections.items():
        kind = score_kind(table, scores)
        outcomes, _ = prepare(table, ground_truth, protocol, taxonomy, kind)
        require_common_keyframes(table, ground_truth)
        warn_if_unclear(table, kind)
        data[name] = cluster(outcomes, protocol.threshold(kind), names, cluster_by)
        values[name] = weighted_scores(data[name], weights, protocol.all_classes, metric).macro
    ranked = {name: _ranked(clustered) for name, clustered in data.items()}
    order = sorted(values, key=lambda name: -values[name][0])
    pairs = []
    for a, b in combinations(order, 2):
        difference = values[a] - values[b]
        low, high = interval(difference[1:], float(difference[0]), level)
        p = _permutation_p(ranked[a], ranked[b], float(difference[0]), metric, protocol.all_classes, resamples, seed)
        pairs.append({"a": a, "b": b, "difference": float(difference[0]), "low": low, "high": high, "p": p})
    table = pd.DataFrame(pairs)
    table["p_holm"] = holm(table["p"].to_numpy())
    return Comparison(metric, _ranking(order, values, table, level, alpha), table, len(names))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, stepping down (Holm, Scand. J. Statist. 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _ranked(data: Clustered) -> Clustered:
    ranks = pd.DataFrame(data.scores).rank(pct=True).to_numpy()
    return replace(data, scores=np.where(np.isfinite(data.scores), ranks, -np.inf))


def _permutation_p(
    a: Clustered, b: Clustered, observed: float, metric: str, all_classes: bool, permutations: int, seed: int
) -> float:
    """Return the two-sided fraction of exchanges of clusters with at least the observed difference."""
    both = Clustered(
        scores=np.concatenate([a.scores, b.scores]),
        matched=np.concatenate([a.matched, b.matched]),
        truth=np.concatenate([a.truth, b.truth]),
        predicted=np.concatenate([a.predicted, b.predicted]),
        cluster=np.concatenate([a.cluster, b.cluster + len(a.labels)]),
        labels=np.concatenate([a.labels, b.labels]),
    )
    kept = np.random.default_rng(seed + 1).integers(0, 2, (permutations, len(a.labels))).astype(np.float64)
    first = weighted_scores(both, np.concatenate([kept, 1 - kept], axis=1), all_classes, metric).macro
    second = weighted_scores(both, np.concatenate([1 - kept, kept], axis=1), all_classes, metric).macro
    extreme = np.abs(first - second) >= abs(observed) - 1e-12
    return float((1 + extreme.sum()) / (1 + permutations))


def _ranking(
    order: list[str], values: Mapping[str, np.ndarray], pairs: pd.DataFrame, level: float, alpha: float
) -> pd.DataFrame:
    told_apart = pairs[pairs["p_holm"] <= alpha]
    rows = []
    for name in order:
        low, high = interval(values[name][1:], float(values[name][0]), level)
        better = int(((told_apart["b"] == name) & (told_apart["difference"] > 0)).sum())
        worse = int(((told_apart["a"] == name) & (told_apart["difference"] > 0)).sum())
        rows.append(
            {
                "model": name,
                "value": float(values[name][0]),
                "low": low,
                "high": high,
                "best_rank": 1 + better,
                "worst_rank": len(order) - worse,
            }
        )
    return pd.DataFrame(rows)
