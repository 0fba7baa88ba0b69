"""Several views of a test batch, and the gradient of a loss that couples them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from microg_da.adaptation.base import detect
from microg_da.errors import check_count
from microg_da.models.detector import ActionDetector
from microg_da.transforms.rotation import even_rolls
from microg_da.types import ClipBatch


def rolled_views(batch: ClipBatch, rolls: int, flips: bool) -> list[ClipBatch]:
    """Return a batch under evenly spaced camera rolls, starting at 0°; with ``flips``, each view is also mirrored.

    Raises:
        InputError: if ``rolls`` is less than 1.
    """
    check_count("adaptation.test_time_args.rolls", rolls)
    views = even_rolls(batch, rolls)
    return [*views, *(mirrored(view) for view in views)] if flips else views


def mirrored(batch: ClipBatch) -> ClipBatch:
    """Return the clips mirrored left to right."""
    width = batch.frames.shape[-1]
    x1, y1, x2, y2 = batch.boxes.unbind(dim=1)
    return replace(batch, frames=batch.frames.flip(-1), boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))


def backward_through_views(
    detector: ActionDetector, views: Sequence[ClipBatch], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Backpropagate a loss of the logits of all views, with one view in memory at a time.

    Each view is predicted twice: first without gradients, to compute the gradient of the loss with respect to the
    logits, then with gradients, to propagate it to the parameters. Both predictions must be equal, so that the detector
    must be in evaluation mode.

    Args:
        detector: the detector, in evaluation mode.
        views: ``R`` batches with the same ``K`` people in the same order.
        loss: function of the logits ``(R, K, C)`` that returns a scalar.

    Returns:
        The logits ``(R, K, C)``, float32, without gradient.
    """
    with torch.no_grad():
        logits = torch.stack([detect(detector, view).logits.float() for view in views])
    leaf = logits.clone().requires_grad_(True)
    (gradients,) = torch.autograd.grad(loss(leaf), leaf)
    for view, gradient in zip(views, gradients, strict=True):
        torch.autograd.backward(detect(detector, view).logits.float(), gradient)
    return logits
