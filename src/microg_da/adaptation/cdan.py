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
        entropy_weighting: whether people whose actions are certain count up to twice (CDAN+E).
        max_dim: above this length the product of features and predictions is replaced by a random projection of it.
        random_dim: length of that projection.
    """

    entropy_weighting: bool = True
    max_dim: int = 4096
    random_dim: int = 1024


class CDAN(Adversarial):
    """RoI features from which a classifier that also knows the predicted actions cannot tell the domain.

    The paper conditions on one softmax distribution by the product of features and probabilities. Here every class
    in the support has a Bernoulli distribution of its own, and the product is taken with ``(1, p_1, …)``, which spans
    the same space as all pairs ``(p_c, 1 - p_c)``: without the 1, a person of whom nothing is predicted would vanish.
    The entropy of a person is that of their whole label set, the sum over classes. As in the authors' program, the
    condition and the weights carry no gradient.

    Long et al., "Conditional adversarial domain adaptation", NeurIPS 2018.

    Deviations from the paper: those above; a default weight of 0.1 instead of 1, at which the reversed gradient is
    0.15 of that of the labels on the embedded pair; a warm-up of the learning rate of at most a tenth of the stage.
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
        """The domain loss; the detector receives its gradient reversed and scaled."""
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
    """``(K, 1 + C)``: a 1, and the probability of every class, from ``(K, C)`` logits."""
    probabilities = torch.sigmoid(logits)
    return torch.cat([probabilities.new_ones(len(logits), 1), probabilities], dim=1)


def multilinear_map(features: Tensor, condition: Tensor) -> Tensor:
    """``(K, M * D)``: the outer product of each person's ``(K, D)`` features and ``(K, M)`` condition."""
    return (condition[:, :, None] * features[:, None, :]).flatten(1)


def randomised_multilinear_map(
    features: Tensor, condition: Tensor, random_features: Tensor, random_condition: Tensor
) -> Tensor:
    """``(K, R)``: a projection of :func:`multilinear_map` that keeps inner products in expectation.

    Args:
        features: ``(K, D)``.
        condition: ``(K, M)``.
        random_features: ``(D, R)`` independent draws of mean 0 and variance 1.
        random_condition: ``(M, R)``, likewise.
    """
    # Under autocast the two factors come in half precision, in which their product could overflow.
    factors = (features @ random_features).float(), (condition @ random_condition).float()
    return factors[0] * factors[1] / math.sqrt(random_features.shape[1])


def certainty_weights(logits: Tensor) -> Tensor:
    """``(K,)`` weights ``1 + exp(-H)``, H the entropy of a person's label set; no gradient."""
    return 1.0 + torch.exp(-bernoulli_entropy(logits.detach()).sum(dim=1))
