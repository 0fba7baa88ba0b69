"""Losses that several methods share: pure functions of tensors, defined for any number of people, 0 included."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def multilabel_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits, mean over people and classes; 0 (with a gradient of 0) without people.

    Args:
        logits: ``(K, C)``.
        labels: ``(K, C)`` in [0, 1].
    """
    if logits.numel() == 0:
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
