"""The support: the classes to which the source gives mass; only these take part in learning on the target.

A taxonomy may have many classes that a data set never shows: of the 50 classes of ``microg50`` the embedded source has
14. Nothing can be learnt about the others from unlabelled clips. In a mean over classes they are most of the terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST_SHARE = 0.1
"""A class that a model predicts less often than this share of the mean over classes has no mass."""
SUREST = 0.5
"""A class of which a model is surer than this for one person has mass, however rare it is."""


def support_of_rates(rates: Sequence[float] | None, num_classes: int) -> tuple[bool, ...]:
    """The classes that labelled source people have.

    Args:
        rates: ``(C,)`` the share of people who have each class; None if it is not known.
        num_classes: C.

    Returns:
        ``(C,)``; True for every class where the rates are not known, or there are no people.
    """
    occurs = tuple(rate > 0 for rate in rates) if rates is not None else ()
    return occurs if any(occurs) else (True,) * num_classes


def support_of_predictions(probabilities: Tensor) -> Tensor:
    """The classes to which a source model gives mass, for methods that see no source label.

    A class without a source label is improbable for each person, but never impossible: a sigmoid is not 0. It has mass
    if its mean probability is at least a tenth of the mean over all classes, or if it is more probable than not for one
    person, which keeps the classes of a long tail.

    Args:
        probabilities: ``(N, C)`` of the source model for all people that it is asked about.

    Returns:
        ``(C,)`` bool; True for every class where there are no people.
    """
    if not len(probabilities):
        return torch.ones(probabilities.shape[1], dtype=torch.bool, device=probabilities.device)
    mean = probabilities.float().mean(dim=0)
    return (mean >= LEAST_SHARE * mean.mean()) | (probabilities.amax(dim=0) > SUREST)
