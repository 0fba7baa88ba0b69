"""Bound entropy minimisation at test time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from microg_da.adaptation.base import Knowledge, Task
from microg_da.adaptation.online import Online, OnlineArguments, affine_parameters
from microg_da.adaptation.view_steps import backward_through_views, rolled_views
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch

_NORMALISATION = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class BEMArguments(OnlineArguments):
    """Settings of :class:`BEM` with AdamW, in addition to those of all online methods.

    Attributes:
        rolls: number of evenly spaced camera rolls, including the unrolled clip.
        flips: whether each roll is also predicted mirrored.
        view_fraction: fraction of a person's views, those of lowest entropy, that enter the loss.
    """

    lr: float = 1e-3
    episodic: bool = True
    rolls: int = 8
    flips: bool = True
    view_fraction: float = 0.25


class BEM(Online):
    """Minimises the entropy of the bound top classes of each person, then resets the weights.

    Minimising the entropy of a softmax increases the top class at the expense of other classes that the person has.
    Binding sets the ``k`` largest logits of a view to the value of the largest before the softmax, with separate
    gradients, so that all of them increase. The loss is the entropy of the mean over the views of lowest entropy.

    Deviations: the paper takes ``k`` from the captions that CLIP retrieves for a view. Here ``k`` is the expected
    number of classes of the person: the sum of its probabilities over classes, averaged over views, at least 1. There
    is no second loss on captions. Scales and shifts of normalisation layers are adapted in place of prompts. Views are
    rolls and flips in place of 63 random crops, and a quarter of them is kept in place of a tenth. The softmax over
    sigmoid logits compares odds. Adaptation is reset after each batch, not after each image.

    Wu et al., "Multi-label test-time adaptation with bound entropy minimization", ICLR 2025.
    """

    Arguments: ClassVar[type] = BEMArguments
    arguments: BEMArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: BEMArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 < arguments.view_fraction <= 1:
            raise InputError(
                f"adaptation.test_time_args.view_fraction={arguments.view_fraction} is invalid: expected a number in "
                "(0, 1]."
            )

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return the scales and shifts of all normalisation layers; statistics stay those of the source."""
        detector.eval()
        parameters = affine_parameters(module for module in detector.modules() if isinstance(module, _NORMALISATION))
        if not parameters:
            raise InputError(
                "adaptation 'bem' needs normalisation layers with scale and shift, and this model has none. Choose "
                "another adaptation."
            )
        return parameters

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return AdamW, as in the authors' code."""
        return AdamW(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> None:
        """Take one step on the bound entropy; the prediction is made afterwards, on the unrolled clip."""
        optimizer.zero_grad()
        views = rolled_views(batch, self.arguments.rolls, self.arguments.flips)
        backward_through_views(detector, views, self._loss)
        optimizer.step()

    def _loss(self, logits: Tensor) -> Tensor:
        return bound_entropy(self.supported(logits), self.arguments.view_fraction)


def bound_entropy(logits: Tensor, fraction: float) -> Tensor:
    """Return the entropy (nats) of the mean bound softmax over the views of lowest entropy, averaged over people.

    Args:
        logits: ``(R, K, C)`` of R views.
        fraction: fraction of views to keep, rounded down, at least one view.
    """
    counts = expected_labels(logits.detach())
    bound = bind(logits, counts.expand(len(logits), -1)).log_softmax(dim=2)
    surest = (-(bound.detach() * bound.detach().exp()).sum(dim=2)).argsort(dim=0)
    surest = surest[: max(1, int(fraction * len(logits)))]
    chosen = bound.gather(0, surest[..., None].expand(-1, -1, logits.shape[2]))
    mean = chosen.logsumexp(dim=0) - math.log(len(surest))
    return -(mean * mean.exp()).sum(dim=1).mean()


def expected_labels(logits: Tensor) -> Tensor:
    """Return the expected number of classes of each person: ``(K,)`` int64, 1 to C.

    Args:
        logits: ``(R, K, C)`` of R views; probabilities are averaged over views.
    """
    return logits.float().sigmoid().mean(dim=0).sum(dim=1).round().long().clamp(1, logits.shape[2])


def bind(logits: Tensor, counts: Tensor) -> Tensor:
    """Set the largest logits to the value of the largest by adding a constant, which keeps separate gradients.

    Args:
        logits: ``(…, C)``.
        counts: ``(…)`` int64, the number of bound classes.
    """
    fixed = logits.detach()
    ranks = fixed.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    lift = fixed.amax(dim=-1, keepdim=True) - fixed
    return logits + torch.where(ranks < counts[..., None], lift, torch.zeros_like(lift))
