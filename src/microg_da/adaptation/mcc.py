"""Minimum class confusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Losses
from microg_da.adaptation.losses import bernoulli_entropy, nothing
from microg_da.types import Prediction


@dataclass
class MCCArguments:
    """Settings of :class:`MCC`.

    Attributes:
        weight: of the confusion, which is between 0 and 1/2. With few people a batch it must be small: at 1 the source
            validation mAP of the embedded pair falls from 0.93 to 0.49 in three epochs.
        temperature: logits are divided by it.
        by_mass: whether a class weighs as much in the mean as target people are predicted to have it, instead of all
            alike. Of a class that one person in a hundred has, a batch says nothing but noise.
    """

    weight: float = 0.1
    temperature: float = 2.5
    by_mass: bool = True


class MCC(DomainAdaptation):
    """Target predictions in which no class is confused with its absence.

    The paper correlates softmax predictions of different classes and minimises what is off the diagonal. Here a person
    does several things at once, and two classes that go together are no confusion. So each class is a problem of
    its own with two answers, present (p) and absent (1 - p), to which the paper's loss is applied; the confusion is
    a mean over the classes in the support. With two answers it is ``(1 - Var(p) / (E(p) (1 - E(p)))) / 2`` over people:
    largest where all are told the same, nothing included, so predicting nothing for all people does not minimise it.

    Jin et al., "Minimum class confusion for versatile domain adaptation", ECCV 2020.

    Deviations from the paper: those above; weights of people that are not normalised to a sum, which cancels in the
    rows; a default weight of 0.1 instead of 1; classes weigh by their mass.
    """

    Arguments: ClassVar[type] = MCCArguments
    arguments: MCCArguments

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """The confusion of target people."""
        confusion = class_confusion(self.supported(target.logits), self.arguments.temperature, self.arguments.by_mass)
        return {"confusion": self.arguments.weight * confusion}


def class_confusion(logits: Tensor, temperature: float = 2.5, by_mass: bool = False) -> Tensor:
    """Mean off-diagonal entry of the classes' 2×2 correlation matrices, each row normalised to sum to 1.

    People count by ``1 + exp(-H)``, H the entropy of their own prediction of that class; the weights carry no
    gradient.

    Args:
        logits: ``(K, C)``; 0 is returned for no people.
        temperature: logits are divided by it.
        by_mass: weigh classes by their mean probability, which carries no gradient, instead of all alike.
    """
    if not len(logits):
        return nothing(logits)
    scaled = logits.float() / temperature
    weight = 1.0 + torch.exp(-bernoulli_entropy(scaled.detach()))
    present, absent = torch.sigmoid(scaled), torch.sigmoid(-scaled)
    confused = (weight * present * absent).sum(dim=0)
    rows = torch.stack([(weight * answer).sum(dim=0) for answer in (present, absent)])
    confusion = (confused / rows.clamp(min=torch.finfo(rows.dtype).eps)).mean(dim=0)
    if not by_mass:
        return confusion.mean()
    mass = torch.sigmoid(logits.detach().float()).mean(dim=0)
    return (mass * confusion).sum() / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)
