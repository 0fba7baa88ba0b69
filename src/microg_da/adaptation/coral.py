"""Deep CORAL: correlation alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Losses, Task
from microg_da.adaptation.feature_queue import DomainQueues
from microg_da.adaptation.losses import nothing
from microg_da.models.detector import ActionDetector
from microg_da.types import Prediction


@dataclass
class CORALArguments:
    """Settings of :class:`CORAL`.

    Attributes:
        weight: weight of the distance between covariances.
        mean_weight: weight of the distance between means, which is not in the paper; 0 for none.
        queue: number of earlier people of each domain that enter the covariance in addition to those of the step.
        normalise: whether features are divided by their norm, so that the loss, which grows with the fourth power of
            their scale, does not depend on it.
    """

    weight: float = 1.0
    mean_weight: float = 0.0
    queue: int = 512
    normalise: bool = True


class CORAL(DomainAdaptation):
    """Matches the covariances, and optionally the means, of RoI features in both domains.

    Sun and Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", ECCV workshops 2016.

    Deviations from the paper:

    - RoI features of people are compared, and not the outputs of the last layer.
    - Features are normalised, and covariances are computed over a queue of people. With 24 people in 128 dimensions,
      92% of the distance is sampling noise. The loss is 0 while a domain has fewer people than dimensions (or than the
      size of the queue).
    - The distance between means is an optional addition.
    """

    Arguments: ClassVar[type] = CORALArguments
    arguments: CORALArguments

    def __init__(self, arguments: CORALArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.queues = DomainQueues(arguments.queue, task.feature_dim, arguments.normalise)
        self.fewest = min(task.feature_dim, arguments.queue)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the distance between covariances and, if its weight is not 0, between means."""
        features = self.queues.extend(source.features, target.features)
        enough = min(map(len, features)) >= self.fewest
        distance = covariance_distance(*features) if enough else nothing(*features)
        losses = {"coral": self.arguments.weight * distance}
        if self.arguments.mean_weight:
            losses["mean"] = self.arguments.mean_weight * mean_distance(*features)
        return losses

    def after_training(self, detector: ActionDetector) -> None:
        """Clear the queues."""
        self.queues.clear()


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared Frobenius distance of covariances over ``4 D²``; 0 with fewer than two people in a domain.

    Args:
        source: ``(K_s, D)``.
        target: ``(K_t, D)``.
    """
    if min(len(source), len(target)) < 2:
        return nothing(source, target)
    # Under autocast the products would have half precision, which is too coarse for differences of covariances.
    with torch.autocast(source.device.type, enabled=False):
        difference = torch.cov(source.float().T) - torch.cov(target.float().T)
    return difference.square().mean() / 4.0


def mean_distance(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of the means of ``(K, D)`` features over D; 0 if a domain has no people."""
    if not len(source) or not len(target):
        return nothing(source, target)
    return (source.float().mean(dim=0) - target.float().mean(dim=0)).square().mean()
