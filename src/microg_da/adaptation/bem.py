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
    """Settings of :class:`BEM`, which steps by AdamW, besides those of all online methods.

    Attributes:
        rolls: evenly spaced camera rolls that a clip is seen under, the clip as it is among them.
        flips: whether each of them is also seen mirrored.
        kept: share of a person's views, the surest ones, that the loss is taken of.
    """

    lr: float = 1e-3
    episodic: bool = True
    rolls: int = 8
    flips: bool = True
    kept: float = 0.25


class BEM(Online):
    """The classes that a person probably has become surer together; then the weights go back.

    Entropy of a softmax over classes lifts the likeliest class at the cost of the others a person has. Binding lifts
    the ``k`` likeliest logits of a view to the value of the first before the softmax, each with the gradient of its
    own, so that all of them are lifted. The loss is the entropy of the mean over a person's surest views.

    Deviations: the paper reads ``k`` off the captions that CLIP finds for a view; here it is the number of classes
    that the detector expects of the person, the sum of its probabilities over classes, mean over views, at least 1.
    There are no captions, hence no second loss on them. Scales and shifts of normalisation layers are changed in place
    of prompts. Views are rolls and mirror images in place of 63 random crops, and a quarter of them is kept, not a
    tenth. The softmax stays: it is the odds of sigmoids that it compares. A batch, not an image, is adapted to and
    forgotten.

    Wu et al., "Multi-label test-time adaptation with bound entropy minimization", ICLR 2025.
    """

    Arguments: ClassVar[type] = BEMArguments
    arguments: BEMArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: BEMArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 < arguments.kept <= 1:
            raise InputError(f"bem: kept={arguments.kept} is invalid: expected a share above 0, at most 1.")

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Scales and shifts of all normalisation layers; statistics stay those of the source."""
        detector.eval()
        parameters = affine_parameters(module for module in detector.modules() if isinstance(module, _NORMALISATION))
        if not parameters:
            raise InputError(
                "adaptation 'bem' needs normalisation layers with scale and shift, and this model has none. Choose "
                "another one."
            )
        return parameters

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """AdamW, as in the authors' program."""
        return AdamW(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> None:
        """One step down the bound entropy; the answer is asked for afterwards, on the clip as it is."""
        optimizer.zero_grad()
        views = rolled_views(batch, self.arguments.rolls, self.arguments.flips)
        backward_through_views(detector, views, self._loss)
        optimizer.step()

    def _loss(self, logits: Tensor) -> Tensor:
        return bound_entropy(self.supported(logits), self.arguments.kept)


def bound_entropy(logits: Tensor, kept: float) -> Tensor:
    """Entropy (nats) of the mean bound softmax over the surest views of a person, mean over ``K ≥ 1`` people.

    Args:
        logits: ``(R, K, C)`` of R views.
        kept: share of the views that are kept, rounded down but at least one.
    """
    counts = expected_labels(logits.detach())
    bound = bind(logits, counts.expand(len(logits), -1)).log_softmax(dim=2)
    surest = (-(bound.detach() * bound.detach().exp()).sum(dim=2)).argsort(dim=0)
    surest = surest[: max(1, int(kept * len(logits)))]
    chosen = bound.gather(0, surest[..., None].expand(-1, -1, logits.shape[2]))
    mean = chosen.logsumexp(dim=0) - math.log(len(surest))
    return -(mean * mean.exp()).sum(dim=1).mean()


def expected_labels(logits: Tensor) -> Tensor:
    """``(K,)`` int64, how many classes a person is expected to have: 1 to C.

    Args:
        logits: ``(R, K, C)`` of R views, over which probabilities are averaged.
    """
    return logits.float().sigmoid().mean(dim=0).sum(dim=1).round().long().clamp(1, logits.shape[2])


def bind(logits: Tensor, counts: Tensor) -> Tensor:
    """Lift the likeliest classes to the value of the first, by a constant: gradients stay each class's own.

    Args:
        logits: ``(…, C)``.
        counts: ``(…)`` int64, how many classes are bound.
    """
    fixed = logits.detach()
    ranks = fixed.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    lift = fixed.amax(dim=-1, keepdim=True) - fixed
    return logits + torch.where(ranks < counts[..., None], lift, torch.zeros_like(lift))
