"""Losses that several methods share: pure functions of tensors, defined for any number of people, including 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def multilabel_bce(logits: Tensor, labels: Tensor, support: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy with logits, averaged over people and classes; 0 with zero gradient for K = 0.

    Example:
        >>> import torch
        >>> from microg_da import multilabel_bce
        >>> multilabel_bce(torch.zeros(2, 50), torch.ones(2, 50))
        tensor(0.6931)
        >>> multilabel_bce(torch.zeros(0, 50), torch.ones(0, 50))
        tensor(0.)

    Args:
        logits: ``(K, C)``.
        labels: ``(K, C)`` in [0, 1].
        support: ``(C,)`` bool, the classes that contribute. Other classes count as 0 in the mean over all C, so that
            each entry has the same weight as in the supervised loss. None for all classes.
    """
    if logits.numel() == 0:
        return logits.sum()
    weight = None if support is None else support.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), weight=weight)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Return the Bernoulli entropy in nats of each class, of the shape of ``logits``; exact for large logits."""
    # H = log(1 + e^z) - z p avoids the logarithm of a probability that may round to 0 or 1.
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def nothing(*tensors: Tensor) -> Tensor:
    """Return 0 with a zero gradient for each of the tensors: the loss of a batch without people to compare."""
    return torch.stack([tensor[:0].float().sum() for tensor in tensors]).sum()
