"""Prototypes of classes in feature space, for multi-label predictions: presence and absence of each class."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

THRESHOLD_STEP = 0.5
"""Spreads by which a threshold moves in a step in which all people are on the wrong side of it."""


class Prototypes(nn.Module):
    """Running means of the features of people with and without each class, weighted by predicted probability.

    A person is scored by cosine similarity to the positive prototype less that to the negative one. Where a class is
    rare the nearer of the two is a bad guess: the middle between them lies amid the many people without the class.
    The score is therefore measured from a threshold that as large a share of people exceeds as ``rate`` says.

    In several processes all of them keep the statistics of all people.

    Args:
        num_classes: C.
        feature_dim: D.
        memory: what is left of the running statistics after a batch, in [0, 1).

    Attributes:
        sums: ``(2, C, D + 1)`` positive and negative: probability-weighted mean features, then the mean weight.
        rate: ``(C,)`` the share of people that are to have each class.
        threshold: ``(C,)`` similarity margin that this share exceeds.
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
        """Begin from what a model says of ``N ≥ 1`` people: ``features`` (N, D), ``probabilities`` (N, C)."""
        self.sums.copy_(weighted_sums(features, probabilities) / len(features))
        self.rate.copy_(probabilities.mean(dim=0))
        margins = self.margins(features)
        self.threshold.copy_(exceeded_by(margins, self.rate))
        self.spread.copy_(margins.std(dim=0, correction=0).clamp_min(1e-3))

    def margins(self, features: Tensor) -> Tensor:
        """``(K, C)`` similarity to the positive prototype less similarity to the negative one, for ``(K, D)``."""
        positive, negative = directions(self.sums)
        with torch.autocast(features.device.type, enabled=False):
            margins: Tensor = F.normalize(features.float(), dim=1) @ (positive - negative).T
            return margins

    def scores(self, features: Tensor) -> Tensor:
        """``(K, C)`` margins in spreads above the threshold: a positive one says that the person has the class."""
        return (self.margins(features) - self.threshold) / self.spread

    def update(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Let the statistics follow a batch, which may be without people.

        Args:
            features: ``(K, D)``.
            probabilities: ``(K, C)``.

        Returns:
            ``sums`` as they are now, with the gradient that the batch's own means would have.
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
    """Sums of features, and of weights, over people, weighted by having and by not having each class.

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
    """``(2, C, D)`` positive and negative prototypes of length 1, of :attr:`Prototypes.sums`."""
    # Direction is all that a cosine needs, so the mean weight need not be divided out.
    return F.normalize(sums[..., :-1], dim=-1)


def prototype_labels(features: Tensor, probabilities: Tensor, rates: Tensor, rounds: int = 2) -> Tensor:
    """Pseudo-labels of all people at once: each class goes to those nearest to its prototype.

    In each round a person's margin is the cosine to the positive prototype less that to the negative one, and the
    ``rates`` share of people with the highest margins, rounded to whole people, gets the class. The labels weigh the
    prototypes of the next round; probabilities weigh those of the first (Liang et al. 2020, section 3.3). Features are
    centred first: those behind a rectifier share a direction that would hide in what they differ.

    Args:
        features: ``(N, D)``.
        probabilities: ``(N, C)``.
        rates: ``(C,)`` the share of people that is to have each class.
        rounds: how often prototypes and labels are made.

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
    """``(C,)`` thresholds that a share ``rate`` (C,) of each column of ``values`` (N, C) exceeds, N being large."""
    ascending = values.sort(dim=0).values
    index = ((1 - rate) * len(values)).round().long().sub(1).clamp_min(0)
    return ascending.gather(0, index[None])[0]


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes of a distributed run; of a single one, ``values``. Every process must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values
