"""Decisions at the class rates of the source: one threshold for each class, found without labels."""

from __future__ import annotations

import torch
from torch import Tensor


def rate_thresholds(logits: Tensor, rates: Tensor) -> Tensor:
    """The logit of each class above which a share of people lies that is the rate of the class.

    A detector that meets another domain is less sure of everything. Its order of people may be good while no logit is
    above 0. Thresholds at the class rates of the source undo that. They assume that both domains have the same rates.

    Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 2002,
    correct probabilities for known rates; a threshold needs the order of people alone.

    Args:
        logits: ``(K, C)`` of people.
        rates: ``(C,)`` the share of people who have each class, in [0, 1].

    Returns:
        ``(C,)``, halfway between the logits of the last person above and the first below. 0, the threshold of an
        unchanged detector, where the rate is that of less than one person or more than all but one.

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
