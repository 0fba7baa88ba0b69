"""Thresholds that give the class rates of the source: one for each class, found without labels."""

from __future__ import annotations

import torch
from torch import Tensor


def rate_thresholds(logits: Tensor, rates: Tensor) -> Tensor:
    """Return a logit threshold for each class, such that the fraction of people above it is the class rate.

    In another domain a detector is less confident. Its ranking of people may be good although no logit is above 0.
    Thresholds at the class rates of the source correct this. They assume equal class rates in both domains.

    Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 2002,
    correct probabilities for known rates; a threshold needs only the ranking of people.

    Args:
        logits: ``(K, C)`` logits of people.
        rates: ``(C,)`` the fraction of people with each class, in [0, 1].

    Returns:
        ``(C,)`` midpoints between the lowest logit above and the highest logit below. The threshold is 0, as without
        correction, if the rate corresponds to fewer than one person or to more than all but one.

    Example::

        >>> rate_thresholds(torch.tensor([[-3.0], [-1.0], [-2.0], [-5.0]]), torch.tensor([0.5])).tolist()
        [-2.5]
    """
    people = len(logits)
    above = (rates * people).round().long()
    known = (above >= 1) & (above < people)
    if not known.any():
        return torch.zeros_like(rates)
    ranked = logits.sort(dim=0, descending=True).values
    last = above.clamp(1, people - 1)[None]
    halfway = (ranked.gather(0, last - 1) + ranked.gather(0, last))[0] / 2
    return torch.where(known, halfway, 0.0)
