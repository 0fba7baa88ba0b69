"""Queue of the features of recent people, so that domain statistics use more people than one step has."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.errors import InputError


class FeatureQueue(nn.Module):
    """A queue of the latest features of people of one domain, without gradient.

    A step has a few tens of people. Their covariance in more dimensions is mostly noise. With a queue the covariance is
    computed over hundreds of people; only those of the step carry a gradient. As in Wang et al., "Cross-batch memory
    for embedding learning", CVPR 2020, features of earlier steps approximate those of the current network.

    Args:
        size: how many people are kept; 0 for none.
        feature_dim: D.
    """

    kept: Tensor
    count: Tensor

    def __init__(self, size: int, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, feature_dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def extend(self, features: Tensor) -> Tensor:
        """Return the features of this step, with gradient, and those of the queue; then add the former to the queue.

        Args:
            features: ``(K, D)``.

        Returns:
            ``(K + N, D)``, float32.
        """
        features = features.float()
        everyone = torch.cat([features, self.kept[: int(self.count)].to(features)])
        newest = everyone.detach()[: len(self.kept)]
        self.kept[: len(newest)] = newest
        self.count.fill_(len(newest))
        return everyone

    def clear(self) -> None:
        """Forget all people."""
        self.count.zero_()


class DomainQueues(nn.Module):
    """A queue for each domain.

    Args:
        size: number of people of each domain to keep; 0 for none.
        feature_dim: D.
        normalise: whether features are first scaled by :func:`unit_scale`.

    Raises:
        InputError: if the size is negative.
    """

    def __init__(self, size: int, feature_dim: int, normalise: bool) -> None:
        super().__init__()
        if size < 0:
            raise InputError(f"adaptation.args.queue={size} is invalid: expected a number of at least 0.")
        self.source = FeatureQueue(size, feature_dim)
        self.target = FeatureQueue(size, feature_dim)
        self.normalise = normalise

    def extend(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features ``(K_s, D)`` and ``(K_t, D)`` of a step with those of the queues; then add the former."""
        if self.normalise:
            source, target = unit_scale(source), unit_scale(target)
        return self.source.extend(source), self.target.extend(target)

    def clear(self) -> None:
        """Forget all people."""
        self.source.clear()
        self.target.clear()


def unit_scale(features: Tensor) -> Tensor:
    """Scale ``(K, D)`` features to a mean square of 1 for each person, so that statistics do not depend on scale."""
    return F.normalize(features.float(), dim=1) * math.sqrt(features.shape[1])
