"""Domain-adversarial training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.adaptation.base import DomainAdaptation, Losses, Task, with_short_warmup
from microg_da.config import TrainingConfig
from microg_da.types import Prediction


@dataclass
class DANNArguments:
    """Settings of :class:`DANN`.

    Attributes:
        weight: largest weight of the reversed gradient.
        hidden_dim: width of the domain classifier.
        gamma: rate of increase of the weight with progress p: ``weight * (2 / (1 + exp(-gamma p)) - 1)``.
        own_lr: factor of the learning rate of the domain classifier.
    """

    weight: float = 0.1
    hidden_dim: int = 128
    gamma: float = 10.0
    own_lr: float = 1.0


class Adversarial(DomainAdaptation):
    """Base of the methods that train domain classifiers against the detector, by gradient reversal."""

    Arguments: ClassVar[type] = DANNArguments
    arguments: DANNArguments

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Limit the warm-up to a tenth of the stage."""
        return with_short_warmup(training)

    @property
    def own_lr_scale(self) -> float:
        """That of the domain classifiers."""
        return self.arguments.own_lr

    def strength(self, progress: float) -> float:
        """Factor of the reversed gradient."""
        return reversal_schedule(progress, self.arguments.gamma) * self.arguments.weight


class DANN(Adversarial):
    """Trains RoI features from which a domain classifier cannot tell the domain, by gradient reversal.

    The domain classifier reads features of people, not of clips, since the labels belong to boxes. Each domain has half
    the weight of the domain loss, independently of the number of people in the batch.

    Ganin et al., "Domain-adversarial training of neural networks", JMLR 17, 2016.

    Deviations from the paper:

    - The default weight is 0.1, not 1. With 1, target mAP falls to 18 on the embedded data; with 0.1, the reversed
      gradient at full strength is a quarter of the supervised gradient.
    - The warm-up of the learning rate is at most a tenth of the stage, so that the domain classifier converges.
    """

    def __init__(self, arguments: DANNArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.domain_classifier = build_domain_classifier(task.feature_dim, arguments.hidden_dim)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the domain loss; its gradient is reversed and scaled for the detector."""
        strength = self.strength(progress)
        logits = [
            self.domain_classifier(reverse_gradient(prediction.features, strength)).squeeze(1)
            for prediction in (source, target)
        ]
        return {"domain": balanced_domain_loss(*logits)}


def build_domain_classifier(input_dim: int, hidden_dim: int) -> nn.Sequential:
    """Return a network with two hidden layers and the logit of the target domain."""
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, 1),
    )


def reversal_schedule(progress: float, gamma: float = 10.0) -> float:
    """Return a factor that rises from 0 to nearly 1 over a stage (equation 14 of the paper)."""
    return 2.0 / (1.0 + math.exp(-gamma * progress)) - 1.0


def balanced_domain_loss(
    source_logits: Tensor,
    target_logits: Tensor,
    source_weights: Tensor | None = None,
    target_weights: Tensor | None = None,
) -> Tensor:
    """Return the binary cross-entropy of the domain, each domain with weight 1/2; a domain without people adds 0.

    Args:
        source_logits: ``(K_s,)`` domain logits of source people.
        target_logits: ``(K_t,)`` domain logits of target people.
        source_weights: ``(K_s,)`` positive weights of people within their domain; None for equal ones.
        target_weights: ``(K_t,)``, likewise for target people.
    """
    # softplus(x) is the cross-entropy with label 0, softplus(-x) that with label 1.
    of_source = _weighted_mean(F.softplus(source_logits), source_weights)
    of_target = _weighted_mean(F.softplus(-target_logits), target_weights)
    return 0.5 * (of_source + of_target)


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if not values.numel():
        return values.sum()
    return values.mean() if weights is None else (weights * values).sum() / weights.sum()


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return the input unchanged; the gradient is multiplied by ``-strength``."""
    output: Tensor = _ReverseGradient.apply(features, strength)
    return output


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
