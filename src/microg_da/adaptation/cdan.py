"""Conditional domain-adversarial training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Losses, Task
from microg_da.adaptation.dann import (
    Adversarial,
    DANNArguments,
    balanced_domain_loss,
    build_domain_classifier,
    reverse_gradient,
)
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.types import Prediction


@dataclass
class CDANArguments(DANNArguments):
    """Settings of :class:`CDAN`, besides those of :class:`~microg_da.adaptation.dann.DANN`.

    Attributes:
        entropy_weighting: whether people with certain predictions have up to twice the weight (CDAN+E).
        max_dim: largest dimension of the product of features and predictions; above it a random projection is used.
        random_dim: dimension of the random projection.
    """

    entropy_weighting: bool = True
    max_dim: int = 4096
    random_dim: int = 1024


class CDAN(Adversarial):
    """Domain-adversarial training with a domain classifier that is conditioned on the predicted actions.

    The paper conditions on a softmax distribution by the product of features and probabilities. Here each class in the
    support has a Bernoulli distribution, and the product is taken with ``(1, p_1, …)``, which spans the same space as
    all pairs ``(p_c, 1 - p_c)``. Without the 1, the product of a person without predicted classes would be 0. The
    entropy of a person is the sum over classes. As in the authors' code, the condition and the weights carry no
    gradient.

    Long et al., "Conditional adversarial domain adaptation", NeurIPS 2018.

    Deviations from the paper: those above; a default weight of 0.1 instead of 1 (on the embedded data the reversed
    gradient is then 0.15 times the supervised gradient); a warm-up of the learning rate of at most a tenth of the
    stage.
    """

    Arguments: ClassVar[type] = CDANArguments
    arguments: CDANArguments

    random_features: Tensor | None
    random_condition: Tensor | None

    def __init__(self, arguments: CDANArguments, task: Task) -> None:
        super().__init__(arguments, task)
        condition_dim = sum(task.support) + 1
        randomised = task.feature_dim * condition_dim > arguments.max_dim
        width = arguments.random_dim if randomised else task.feature_dim * condition_dim
        self.register_buffer("random_features", torch.randn(task.feature_dim, width) if randomised else None)
        self.register_buffer("random_condition", torch.randn(condition_dim, width) if randomised else None)
        self.domain_classifier = build_domain_classifier(width, arguments.hidden_dim)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the domain loss; its gradient is reversed and scaled for the detector."""
        strength = self.strength(progress)
        domains = (source, target)
        logits = [self._domain_logits(prediction, strength) for prediction in domains]
        weights = [certainty_weights(self.supported(prediction.logits)) for prediction in domains]
        if not self.arguments.entropy_weighting:
            return {"domain": balanced_domain_loss(*logits)}
        return {"domain": balanced_domain_loss(*logits, *weights)}

    def _domain_logits(self, prediction: Prediction, strength: float) -> Tensor:
        features = reverse_gradient(prediction.features.float(), strength)
        condition = bernoulli_condition(self.supported(prediction.logits).detach().float())
        if self.random_features is None or self.random_condition is None:
            joint = multilinear_map(features, condition)
        else:
            joint = randomised_multilinear_map(features, condition, self.random_features, self.random_condition)
        logits: Tensor = self.domain_classifier(joint)
        return logits.squeeze(1).float()


def bernoulli_condition(logits: Tensor) -> Tensor:
    """Return ``(K, 1 + C)``: a 1 and the probability of each class, from ``(K, C)`` logits."""
    probabilities = torch.sigmoid(logits)
    return torch.cat([probabilities.new_ones(len(logits), 1), probabilities], dim=1)


def multilinear_map(features: Tensor, condition: Tensor) -> Tensor:
    """Return ``(K, M * D)``: the outer product of each person's ``(K, D)`` features and ``(K, M)`` condition."""
    return (condition[:, :, None] * features[:, None, :]).flatten(1)


def randomised_multilinear_map(
    features: Tensor, condition: Tensor, random_features: Tensor, random_condition: Tensor
) -> Tensor:
    """Return ``(K, R)``: a random projection of :func:`multilinear_map` that keeps inner products in expectation.

    Args:
        features: ``(K, D)``.
        condition: ``(K, M)``.
        random_features: ``(D, R)`` independent draws of mean 0 and variance 1.
        random_condition: ``(M, R)``, likewise.
    """
    # Under autocast both factors have half precision, in which their product could overflow.
    factors = (features @ random_features).float(), (condition @ random_condition).float()
    return factors[0] * factors[1] / math.sqrt(random_features.shape[1])


def certainty_weights(logits: Tensor) -> Tensor:
    """Return weights ``1 + exp(-H)`` ``(K,)`` without gradient, where H is the entropy summed over classes."""
    return 1.0 + torch.exp(-bernoulli_entropy(logits.detach()).sum(dim=1))
