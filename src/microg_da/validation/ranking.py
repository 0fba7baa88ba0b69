"""Ranking of candidates by a label-free score, and the cost of choosing by it. Importing this does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd


def weighted_rank_correlation(scores: Sequence[float] | pd.Series, truth: Sequence[float] | pd.Series) -> float:
    """Kendall's τ of two rankings in which the best count most: -1 to 1, 0 for a score that knows nothing.

    A swap of the candidates on places r and s weighs ``1 / r + 1 / s``, by the ranking of the truth and of the score in
    turn, and the mean of both is taken (scipy's ``weightedtau``): who chooses takes the best, and the order of the
    losers is of no interest. Vigna, "A weighted correlation index for rankings with ties", WWW 2015.

    Args:
        scores: of each candidate; −inf for one that is ruled out. Those of NaN are left out.
        truth: e.g. target mAP, in the same order.

    Returns:
        NaN with fewer than two candidates, or where all scores or all true values are the same.
    """
    from scipy.stats import weightedtau

    pair = pd.DataFrame({"score": np.asarray(scores, float), "truth": np.asarray(truth, float)}).dropna()
    if len(pair) < 2 or pair["score"].nunique() < 2 or pair["truth"].nunique() < 2:
        return math.nan
    # By ranks, since the difference of two infinite scores is undefined.
    return float(weightedtau(pair["score"].rank(), pair["truth"].rank()).statistic)


def mean_within(
    table: pd.DataFrame, groups: Sequence[Hashable], score: str, truth: str, least: int = 3
) -> tuple[float, int]:
    """The mean weighted rank correlation within groups, e.g. within one method's settings of one seed.

    Args:
        table: one candidate a line.
        groups: columns whose values make a group.
        score: the column of the label-free score.
        truth: the column of true values.
        least: smallest number of candidates in a group; with two, the correlation is always 1 or -1.

    Returns:
        The mean, NaN without a group, and how many groups it is of.
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
    """Gain of choosing by a score over choosing nothing, mean over groups; negative for a loss.

    Args:
        table: one candidate a line.
        groups: as in :func:`mean_within`.
        score: the column of the label-free score; NaN is never chosen, and nor is −inf.
        truth: the column of true values.
        is_default: from a group's lines to which of them is the one that is taken without choosing: the method's own
            settings at the last epoch. Groups without exactly one are left out, and those of one candidate.

    Returns:
        The mean, NaN without a group, and how many groups it is of. Where no candidate can be chosen, the default is.
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
