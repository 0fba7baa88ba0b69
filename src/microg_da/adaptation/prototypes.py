"""Prototypes of classes in feature space, for multi-label predictions: presence and absence of each class."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

THRESHOLD_STEP = 0.5
"""Step size of a threshold, in spreads, if all people of a batch are on the wrong side of it."""


class Prototypes(nn.Module):
    """Moving averages of the features of people with and without each class, weighted by probability.

    The margin of a person is the cosine similarity to the positive prototype minus that to the negative prototype. For
    a rare class, a margin of 0 is a poor threshold, since it lies among the many people without the class. Scores are
    therefore relative to a threshold that a fraction ``rate`` of people exceeds.

    With several processes, each process keeps the statistics of all people.

    Args:
        num_classes: C.
        feature_dim: D.
        memory: decay of the moving averages in each batch, in [0, 1).

    Attributes:
        sums: ``(2, C, D + 1)`` positive and negative: probability-weighted mean features, then the mean weight.
        rate: ``(C,)`` the desired fraction of people with each class.
        threshold: ``(C,)`` margin that this fraction of people exceeds.
        spread: ``(C,)`` standard deviation of the margin at the start.
    """

    sums: Tensor
    rate: Tensor
    threshold: Tensor
    spread: Tensor

    def __init__(self, num_classes: int, feature_dim: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("sums", torch.zeros(2, num_classes, feature_dim + 1))
        self.register_buffer("rate", torch.full((num_classes,), 0.5))
        self.register_buffer("threshold", torch.zeros(num_classes))
        self.register_buffer("spread", torch.ones(num_classes))

    @torch.no_grad()
    def start(self, features: Tensor, probabilities: Tensor) -> None:
        """Initialise from a model's predictions for ``N ≥ 1`` people: ``features`` (N, D), ``probabilities`` (N, C)."""
        self.sums.copy_(weighted_sums(features, probabilities) / len(features))
        self.rate.copy_(probabilities.mean(dim=0))
        margins = self.margins(features)
        self.threshold.copy_(exceeded_by(margins, self.rate))
        self.spread.copy_(margins.std(dim=0, correction=0).clamp_min(1e-3))

    def margins(self, features: Tensor) -> Tensor:
        """Return ``(K, C)`` similarity to the positive minus similarity to the negative prototype, for ``(K, D)``."""
        positive, negative = directions(self.sums)
        with torch.autocast(features.device.type, enabled=False):
            margins: Tensor = F.normalize(features.float(), dim=1) @ (positive - negative).T
            return margins

    def scores(self, features: Tensor) -> Tensor:
        """Return ``(K, C)`` margins above the threshold in spreads; a positive value predicts the class."""
        return (self.margins(features) - self.threshold) / self.spread

    def update(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Update the statistics with a batch, which may have no people.

        Args:
            features: ``(K, D)``.
            probabilities: ``(K, C)``.

        Returns:
            The updated ``sums``, with the gradient of the means of the batch.
        """
        batch = weighted_sums(features, probabilities)
        with torch.no_grad():
            above = (self.scores(features) > 0).float().sum(dim=0)
            people = above.new_full((1,), len(features))
            total, above, people = (sum_over_processes(part) for part in (batch, above, people))
            anybody, known = people > 0, self.sums[0, 0, -1] + self.sums[1, 0, -1] > 0
            keep = torch.where(anybody, self.memory * known, 1.0)
            people = people.clamp_min(1)
            self.sums.copy_(keep * self.sums + (1 - keep) * total / people)
            self.threshold.add_(anybody * THRESHOLD_STEP * self.spread * (above / people - self.rate))
        own = batch / max(len(features), 1)
        return self.sums + (own - own.detach())


def weighted_sums(features: Tensor, probabilities: Tensor) -> Tensor:
    """Return sums of features and of weights over people, weighted by presence and absence of each class.

    Args:
        features: ``(K, D)``.
        probabilities: ``(K, C)``.

    Returns:
        ``(2, C, D + 1)``.
    """
    with torch.autocast(features.device.type, enabled=False):
        features, probabilities = features.float(), probabilities.float()
        counted = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        return torch.stack([probabilities, 1 - probabilities]).mT @ counted


def directions(sums: Tensor) -> Tensor:
    """Return positive and negative prototypes ``(2, C, D)`` of norm 1, from :attr:`Prototypes.sums`."""
    # A cosine depends only on the direction, so that division by the mean weight is not needed.
    return F.normalize(sums[..., :-1], dim=-1)


def prototype_labels(features: Tensor, probabilities: Tensor, rates: Tensor, rounds: int = 2) -> Tensor:
    """Return pseudo-labels of all people at once: each class is assigned to the people nearest to its prototype.

    In each round the margin of a person is the cosine to the positive prototype minus that to the negative prototype.
    The fraction ``rates`` of people with the largest margins, rounded to whole people, gets the class. Labels weight
    the prototypes of the next round; probabilities weight those of the first (Liang et al. 2020, section 3.3). Features
    are centred first, since features after a rectifier share a common direction that hides their differences.

    Args:
        features: ``(N, D)``.
        probabilities: ``(N, C)``.
        rates: ``(C,)`` the desired fraction of people with each class.
        rounds: number of rounds of prototypes and labels.

    Returns:
        ``(N, C)`` in {0, 1}.
    """
    counts = (rates * len(features)).round()
    labels = probabilities.float()
    features = features.float() - features.float().mean(dim=0) if len(features) else features.float()
    for _ in range(rounds):
        positive, negative = directions(weighted_sums(features, labels))
        margins = F.normalize(features, dim=1) @ (positive - negative).T
        places = margins.argsort(dim=0, descending=True).argsort(dim=0)
        labels = (places < counts).float()
    return labels


def exceeded_by(values: Tensor, rate: Tensor) -> Tensor:
    """Return thresholds ``(C,)`` that a fraction ``rate`` (C,) of each column of ``values`` (N, C) exceeds."""
    ascending = values.sort(dim=0).values
    index = ((1 - rate) * len(values)).round().long().sub(1).clamp_min(0)
    return ascending.gather(0, index[None])[0]


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over all processes of a distributed run, all of which must call this; else ``values``."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values
