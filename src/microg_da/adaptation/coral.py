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
        weight: of the distance between covariances.
        mean_weight: of the distance between means, which the paper leaves alone; 0 for none.
        queue: people of each domain that a covariance is taken over besides those of the step; 0 for none.
        normalise: whether features are divided by their length, so that the loss, which grows with the fourth power of
            their scale, does not depend on it.
    """

    weight: float = 1.0
    mean_weight: float = 0.0
    queue: int = 512
    normalise: bool = True


class CORAL(DomainAdaptation):
    """RoI features with the same covariance in both domains, and, if wanted, with the same mean.

    Sun and Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", ECCV workshops 2016.

    Deviations from the paper:

    - The features of people are compared, whatever their labels, and not the outputs of the last layer.
    - Features are normalised, and covariances are taken over a queue of people: of 24 people in 128 dimensions, 92% of
      the distance is noise of the sample. While a domain has fewer people than dimensions (or than the queue holds),
      the loss is 0.
    - The distance between means is an addition, off by default.
    """

    Arguments: ClassVar[type] = CORALArguments
    arguments: CORALArguments

    def __init__(self, arguments: CORALArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.queues = DomainQueues(arguments.queue, task.feature_dim, arguments.normalise)
        self.fewest = min(task.feature_dim, arguments.queue)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """The distance between covariances, and, if it has a weight, between means."""
        features = self.queues.extend(source.features, target.features)
        enough = min(map(len, features)) >= self.fewest
        distance = covariance_distance(*features) if enough else nothing(*features)
        losses = {"coral": self.arguments.weight * distance}
        if self.arguments.mean_weight:
            losses["mean"] = self.arguments.mean_weight * mean_distance(*features)
        return losses

    def after_training(self, detector: ActionDetector) -> None:
        """Forget the people met."""
        self.queues.clear()


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of the covariances over ``4 D²``; 0 where a domain has fewer than two people.

    Args:
        source: ``(K_s, D)``.
        target: ``(K_t, D)``.
    """
    if min(len(source), len(target)) < 2:
        return nothing(source, target)
    # Autocast would take the products in half precision, and differences of covariances are small.
    with torch.autocast(source.device.type, enabled=False):
        difference = torch.cov(source.float().T) - torch.cov(target.float().T)
    return difference.square().mean() / 4.0


def mean_distance(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the means of ``(K, D)`` features over D; 0 where a domain has no people."""
    if not len(source) or not len(target):
        return nothing(source, target)
    return (source.float().mean(dim=0) - target.float().mean(dim=0)).square().mean()
