"""Evaluation of label-free scores that rank candidates. This module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd


def weighted_rank_correlation(scores: Sequence[float] | pd.Series, truth: Sequence[float] | pd.Series) -> float:
    """Return Kendall's τ of two rankings with high weights for the best ranks: -1 to 1, 0 for a random score.

    A swap of the candidates on ranks r and s has the weight ``1 / r + 1 / s``. Ranks come from the truth and from the
    score, and the result is the mean of both (``weightedtau`` of scipy). Only the best candidate is selected, so the
    order of the last candidates has low weights. Vigna, "A weighted correlation index for rankings with ties", WWW
    2015.

    Args:
        scores: scores of the candidates; −inf for excluded candidates. Candidates with NaN are ignored.
        truth: true values in the same order, e.g. target mAP.

    Returns:
        The correlation; NaN with fewer than two candidates, or if all scores or all true values are equal.
    """
    from scipy.stats import weightedtau

    pair = pd.DataFrame({"score": np.asarray(scores, float), "truth": np.asarray(truth, float)}).dropna()
    if len(pair) < 2 or pair["score"].nunique() < 2 or pair["truth"].nunique() < 2:
        return math.nan
    # Scores are replaced by ranks, because the difference of two infinite scores is undefined.
    return float(weightedtau(pair["score"].rank(), pair["truth"].rank()).statistic)


def mean_within(
    table: pd.DataFrame, groups: Sequence[Hashable], score: str, truth: str, least: int = 3
) -> tuple[float, int]:
    """Return the mean weighted rank correlation within groups, e.g. within the settings of one method and seed.

    Args:
        table: one candidate per row.
        groups: columns whose values define a group.
        score: the column of the label-free score.
        truth: the column of true values.
        least: minimum number of candidates in a group; with two, the correlation is always 1 or -1.

    Returns:
        The mean, NaN without a group, and the number of groups.
    """
    scored = table.dropna(subset=[score, truth])
    found = [
        weighted_rank_correlation(part[score], part[truth])
        for _, part in scored.groupby(list(groups), sort=False)
        if len(part) >= least
    ]
    known = [value for value in found if not math.isnan(value)]
    return (float(np.mean(known)) if known else math.nan), len(known)


def advantage_over_default(
    table: pd.DataFrame,
    groups: Sequence[Hashable],
    score: str,
    truth: str,
    is_default: Callable[[pd.DataFrame], pd.Series],
) -> tuple[float, int]:
    """Return the mean gain over groups of selection by a score over the default candidate; negative for a loss.

    Args:
        table: one candidate per row.
        groups: as in :func:`mean_within`.
        score: the column of the label-free score; candidates with NaN or −inf are not selected.
        truth: the column of true values.
        is_default: returns a mask of a group's rows with the default candidate: the method's default settings at the
            last epoch. Groups with one candidate, or without exactly one default, are ignored.

    Returns:
        The mean, NaN without a group, and the number of groups. If no candidate can be selected, the default counts.
    """
    gains = []
    for _, part in table.dropna(subset=[truth]).groupby(list(groups), sort=False):
        default = part.loc[is_default(part)]
        if len(default) != 1 or len(part) < 2:
            continue
        able = part[np.isfinite(part[score])]
        chosen = default[truth].iloc[0] if able.empty else able.loc[able[score].idxmax(), truth]
        gains.append(float(chosen - default[truth].iloc[0]))
    return (float(np.mean(gains)) if gains else math.nan), len(gains)
