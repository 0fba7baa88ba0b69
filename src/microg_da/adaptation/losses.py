"""Losses that several methods share: pure functions of tensors, defined for any number of people, 0 included."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def multilabel_bce(logits: Tensor, labels: Tensor, support: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits, mean over people and classes; 0 (with a gradient of 0) without people.

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
        support: ``(C,)`` bool, the classes that take part. The others count as 0 in the mean over all C, so that an
            entry weighs as much as one of the supervised loss. None for all.
    """
    if logits.numel() == 0:
        return logits.sum()
    weight = None if support is None else support.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), weight=weight)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of every class's own yes-or-no distribution, same shape as ``logits``; exact far from 0 too."""
    # H = log(1 + e^z) - z p, which needs no logarithm of a probability that may round to 0 or 1.
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def nothing(*tensors: Tensor) -> Tensor:
    """0 with a gradient of 0 for each of the tensors: the loss of a batch that has nothing to compare."""
    return torch.stack([tensor[:0].float().sum() for tensor in tensors]).sum()
