"""Deep CORAL: correlation alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Losses
from microg_da.adaptation.losses import nothing
from microg_da.types import Prediction


@dataclass
class CORALArguments:
    """Settings of :class:`CORAL`.

    Attributes:
        weight: of the distance between covariances, which grows with the fourth power of the features' scale. By the
            paper's rule it makes this loss about as large as the supervised one; the default does on the embedded pair.
        mean_weight: of the distance between means, which the paper leaves alone; 0 for none.
    """

    weight: float = 0.02
    mean_weight: float = 0.0


class CORAL(DomainAdaptation):
    """RoI features with the same covariance in both domains, and, if wanted, with the same mean.

    The features of people are compared, whatever their labels, so a person with several is nothing special. A
    covariance needs two people and a mean one; where a domain has fewer, that distance is 0.

    Sun and Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", ECCV workshops 2016.
    """

    Arguments: ClassVar[type] = CORALArguments
    arguments: CORALArguments

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """The distance between covariances, and, if it has a weight, between means."""
        features = source.features, target.features
        losses = {"coral": self.arguments.weight * covariance_distance(*features)}
        if self.arguments.mean_weight:
            losses["mean"] = self.arguments.mean_weight * mean_distance(*features)
        return losses


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
