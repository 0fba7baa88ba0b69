"""What a label is taken for: a confusion matrix for people who do several things at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from microg_da.evaluation.protocols import MIN_SUPPORT, get_protocol, prepare
from microg_da.reporting.target_scores import TargetTest
from microg_da.runs.reader import ADAPTED, SOURCE_ONLY
from microg_da.taxonomy import GROUP_NAMES, Taxonomy

MOST_MISTAKES = 2
"""How many of the classes that one is taken for are named."""


@dataclass(frozen=True)
class Confusion:
    """How the people of each class are read by one detector.

    Attributes:
        shares: one row per class with ground truth, one column per class of the taxonomy, both by action id: the
            share of people with the row's label who are read as the column's class. A row sums to 1, less the
            share of people whom no detection covers; it is NaN outside the group of its class.
        support: how many people carry the label of each row.
    """

    shares: pd.DataFrame
    support: pd.Series


def confusion(scores: np.ndarray, truth: np.ndarray, taxonomy: Taxonomy) -> Confusion:
    """What people with each label are read as.

    A person carries several labels, of one group or of several, so "the predicted class" needs a question that has
    one answer: for a person with label a, which class scores highest among a and those classes of a's group that the
    person does **not** carry? Where it is a, the label was read right; where it is b, a was read as b. The person's
    other labels take no part, since saying them is no mistake, and neither do other groups: nobody touches an object
    *instead of* standing. Where people carry one label of a group, as all do of the movements, this is the ordinary
    confusion matrix. Only the order of scores within a person counts, so that a detector that is surer of everything
    is not a better or a worse one; no threshold is involved. A class that scores high for everybody is read
    everywhere, which AP cannot see: it orders people within a class. Equal scores share a person equally.

    Args:
        scores: ``(R, C)``; −inf where nothing was said.
        truth: ``(R, C)`` bool, the labels of the person that each row is.
        taxonomy: the classes, and their groups.
    """
    groups = np.array(taxonomy.groups)
    support = truth.sum(axis=0)
    shares = np.full((len(taxonomy), len(taxonomy)), np.nan)
    for label in np.flatnonzero(support):
        people = truth[:, label]
        competing = ~truth[people] & (groups == groups[label])
        competing[:, label] = True
        said = np.where(competing, scores[people], -np.inf)
        best = (said == said.max(axis=1, keepdims=True)) & np.isfinite(said)
        parts = best / np.maximum(best.sum(axis=1, keepdims=True), 1)
        shares[label] = np.where(groups == groups[label], parts.mean(axis=0), np.nan)
    ids = pd.Index(taxonomy.ids, name="action_id")
    table = pd.DataFrame(shares, index=ids, columns=ids)[support > 0]
    return Confusion(table, pd.Series(support, index=ids)[support > 0])


def confusions(test: TargetTest) -> dict[str, Confusion]:
    """The confusion of each row of a run on its target test set, people paired with detections one to one."""
    found = {}
    for row, detections in test.detections.items():
        outcomes, _ = prepare(detections, test.truth, get_protocol("corrected"), test.taxonomy, "logit")
        found[row] = confusion(outcomes.scores, outcomes.truth, test.taxonomy)
    return found


def confusion_content(test: TargetTest) -> dict[str, Any] | None:
    """What the page shows: a line per class, and a matrix per group, before and after beside each other."""
    found = {row: matrix for row, matrix in confusions(test).items() if row in (SOURCE_ONLY, ADAPTED)}
    if not found or next(iter(found.values())).shares.empty:
        return None
    taxonomy = test.taxonomy
    support = next(iter(found.values())).support
    lines = [_line(action, int(support[action]), found, taxonomy) for action in support.index]
    lines.sort(key=lambda line: -line["support"])
    groups = {line["group"] for line in lines}
    return {
        "rows": list(found),
        "lines": lines,
        "matrices": [_matrix(group, found, taxonomy) for group in GROUP_NAMES if group in groups],
        "changed": len(found) == 2,
        "few": MIN_SUPPORT,
    }


def _line(action: int, support: int, found: dict[str, Confusion], taxonomy: Taxonomy) -> dict[str, Any]:
    right = {row: matrix.shares.loc[action].to_dict()[action] for row, matrix in found.items()}
    taken_for = {}
    for row, matrix in found.items():
        wrong = matrix.shares.loc[action].drop(action).dropna()
        wrong = wrong[wrong > 0].sort_values(ascending=False, kind="stable").head(MOST_MISTAKES)
        taken_for[row] = [(taxonomy.label(other), float(share)) for other, share in wrong.items()]
    change = right[ADAPTED] - right[SOURCE_ONLY] if len(right) == 2 else float("nan")
    return {
        "name": taxonomy.label(action),
        "group": taxonomy.group(action),
        "support": support,
        "right": right,
        "taken_for": taken_for,
        "change": change,
    }


def _matrix(group: str, found: dict[str, Confusion], taxonomy: Taxonomy) -> dict[str, Any]:
    """The part of each row's shares that is about one group; columns that are empty in all of them are left out."""
    shares = [matrix.shares for matrix in found.values()]
    rows = [action for action in shares[0].index if taxonomy.group(action) == group]
    columns = [
        action
        for action in taxonomy.ids
        if taxonomy.group(action) == group and (action in rows or any(s.loc[rows, action].max() > 0 for s in shares))
    ]
    return {
        "group": group,
        "columns": [(action, taxonomy.label(action)) for action in columns],
        "lines": [
            {
                "action": action,
                "name": taxonomy.label(action),
                "cells": {row: matrix.shares.loc[action, columns].tolist() for row, matrix in found.items()},
            }
            for action in rows
        ],
    }
