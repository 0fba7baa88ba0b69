"""The support: the classes that occur in the source. Only these enter losses and pseudo-labels on the target.

A taxonomy may have many classes that do not occur in a data set: the embedded source has
14 of the 50 classes of ``microg50``. Unlabelled clips give no information about the others, which would dominate a mean
over classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST_SHARE = 0.1
"""The smallest mean probability of a class in the support, as a fraction of the mean over classes."""
SUREST = 0.5
"""A class with a higher probability for any person is in the support, however rare it is."""


def support_of_rates(rates: Sequence[float] | None, num_classes: int) -> tuple[bool, ...]:
    """Return the classes of labelled source people.

    Args:
        rates: ``(C,)`` the fraction of people with each class; None if unknown.
        num_classes: C, the number of classes.

    Returns:
        ``(C,)`` bool; True for all classes if the rates are unknown or there are no people.
    """
    occurs = tuple(rate > 0 for rate in rates) if rates is not None else ()
    return occurs if any(occurs) else (True,) * num_classes


def support_of_predictions(probabilities: Tensor) -> Tensor:
    """Return the classes that a source model predicts, for methods without source labels.

    The probability of a class without source labels is low for each person, but not 0. A class is in the support if its
    mean probability is at least a tenth of the mean over all classes, or if its probability exceeds 1/2 for any person,
    which retains the classes of a long tail.

    Args:
        probabilities: ``(N, C)`` probabilities of the source model for N people.

    Returns:
        ``(C,)`` bool; True for all classes if there are no people.
    """
    if not len(probabilities):
        return torch.ones(probabilities.shape[1], dtype=torch.bool, device=probabilities.device)
    mean = probabilities.float().mean(dim=0)
    return (mean >= LEAST_SHARE * mean.mean()) | (probabilities.amax(dim=0) > SUREST)
