"""Confusion matrix for people with several labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from microg_da.evaluation.protocols import MIN_SUPPORT, get_protocol, prepare
from microg_da.reporting.content import Content
from microg_da.runs.tables import TargetTest
from microg_da.taxonomy import GROUP_NAMES, Taxonomy
from microg_da.types import Variant

MOST_MISTAKES = 2
"""The number of listed classes with which a class is confused."""


@dataclass(frozen=True)
class Confusion:
    """The confusion of each class by one detector.

    Attributes:
        shares: one row per class with ground truth, one column per class of the taxonomy, both by action id: the
            fraction of people with the row's label who are predicted as the column's class. A row sums to 1 minus the
            fraction of people without a detection; it is NaN outside the group of its class.
        support: the number of people with the label of each row.
    """

    shares: pd.DataFrame
    support: pd.Series


def confusion(scores: np.ndarray, truth: np.ndarray, taxonomy: Taxonomy) -> Confusion:
    """Compute the confusion of each label with other classes of its group.

    A person has several labels, so that "the predicted class" must be defined: for a person with label a, it is the
    class with the highest score among a and those classes of a's group that the person does **not** have. If this is a,
    the prediction is correct; if it is b, a is confused with b. The other labels of the person are ignored, since
    predicting them is correct, and so are other groups, since touching an object does not exclude standing. If people
    have one label of a group, as for movements, this is the usual confusion matrix. Only the order of scores within a
    person matters, and no threshold is needed. The matrix shows classes with high scores for all people, which AP does
    not, since AP ranks people within a class. Equal scores share a person equally.

    Args:
        scores: ``(R, C)``; −inf without a detection.
        truth: ``(R, C)`` bool, the labels of the person in each row.
        taxonomy: the classes, and their groups.
    """
    groups = np.array(taxonomy.groups)
    support = truth.sum(axis=0)
    shares = np.full((len(taxonomy), len(taxonomy)), np.nan)
    for label in np.flatnonzero(support):
        people = truth[:, label]
        competing = ~truth[people] & (groups == groups[label])
        competing[:, label] = True
        candidates = np.where(competing, scores[people], -np.inf)
        best = (candidates == candidates.max(axis=1, keepdims=True)) & np.isfinite(candidates)
        parts = best / np.maximum(best.sum(axis=1, keepdims=True), 1)
        shares[label] = np.where(groups == groups[label], parts.mean(axis=0), np.nan)
    ids = pd.Index(taxonomy.ids, name="action_id")
    table = pd.DataFrame(shares, index=ids, columns=ids)[support > 0]
    return Confusion(table, pd.Series(support, index=ids)[support > 0])


def confusions(test: TargetTest) -> dict[Variant, Confusion]:
    """Return the confusion of each variant on the target test set, with people and detections matched one to one."""
    found = {}
    for variant, detections in test.detections.items():
        outcomes, _ = prepare(detections, test.truth, get_protocol("corrected"), test.taxonomy, "logit")
        found[variant] = confusion(outcomes.scores, outcomes.truth, test.taxonomy)
    return found


def confusion_content(test: TargetTest) -> Content | None:
    """Return the content of the page: a row per class, and a matrix per group before and after adaptation."""
    found: dict[Variant, Confusion] = {
        v: matrix for v, matrix in confusions(test).items() if v in ("source_only", "adapted")
    }
    if not found or next(iter(found.values())).shares.empty:
        return None
    taxonomy = test.taxonomy
    support = next(iter(found.values())).support
    by_support = support.sort_values(ascending=False, kind="stable").index
    lines = [_line(action, int(support[action]), found, taxonomy) for action in by_support]
    groups = {taxonomy.group(action) for action in support.index}
    return {
        "variants": list(found),
        "lines": lines,
        "matrices": [_matrix(group, found, taxonomy) for group in GROUP_NAMES if group in groups],
        "changed": len(found) == 2,
        "few": MIN_SUPPORT,
    }


def _line(action: int, support: int, found: Mapping[Variant, Confusion], taxonomy: Taxonomy) -> Content:
    right = {variant: matrix.shares.loc[action].to_dict()[action] for variant, matrix in found.items()}
    taken_for = {}
    for variant, matrix in found.items():
        shares = zip(map(int, matrix.shares.columns), matrix.shares.T[action].tolist(), strict=True)
        wrong = [(other, share) for other, share in shares if other != action and share > 0]
        wrong.sort(key=lambda pair: pair[1], reverse=True)
        taken_for[variant] = [(taxonomy.label(other), share) for other, share in wrong[:MOST_MISTAKES]]
    change = right["adapted"] - right["source_only"] if len(right) == 2 else float("nan")
    return {
        "name": taxonomy.label(action),
        "group": taxonomy.group(action),
        "support": support,
        "right": right,
        "taken_for": taken_for,
        "change": change,
    }


def _matrix(group: str, found: Mapping[Variant, Confusion], taxonomy: Taxonomy) -> Content:
    """Return the confusion of each variant within one group, without columns that are empty in all variants."""
    shares = [matrix.shares for matrix in found.values()]
    labels = [action for action in shares[0].index if taxonomy.group(action) == group]
    columns = [
        action
        for action in taxonomy.ids
        if taxonomy.group(action) == group
        and (action in labels or any(s.loc[labels, action].max() > 0 for s in shares))
    ]
    return {
        "group": group,
        "columns": [(action, taxonomy.label(action)) for action in columns],
        "lines": [
            {
                "action": action,
                "name": taxonomy.label(action),
                "cells": {v: matrix.shares.loc[action, columns].tolist() for v, matrix in found.items()},
            }
            for action in labels
        ],
    }
