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
        weight: weight of the confusion, which is between 0 and 1/2. It must be small for batches with few people: with
            1, the source validation mAP on the embedded data falls from 0.93 to 0.49 in three epochs, and with 0.1 by 5
            points in ten epochs.
        temperature: divisor of the logits.
        by_mass: whether classes are weighted by their mean predicted probability, and not equally. For a class of one
            person in a hundred, the confusion in a batch is noise.
    """

    weight: float = 0.03
    temperature: float = 2.5
    by_mass: bool = True


class MCC(DomainAdaptation):
    """Minimises the confusion of each class with its absence in target predictions.

    The paper correlates softmax predictions of different classes and minimises off-diagonal entries. Here a person has
    several actions at once, and two classes that occur together are not confused. Therefore each class is a separate
    problem with two outcomes, present (p) and absent (1 - p), to which the paper's loss is applied. The confusion is
    the mean over the classes in the support. With two outcomes it is ``(1 - Var(p) / (E(p) (1 - E(p)))) / 2`` over
    people. It is largest if all people have the same prediction, so that predicting no class for all people does not
    minimise it.

    Jin et al., "Minimum class confusion for versatile domain adaptation", ECCV 2020.

    Deviations from the paper: those above; the weights of people are not normalised, since the sum cancels in the rows;
    the default weight is 0.03 instead of 1; classes are weighted by their mass.
    """

    Arguments: ClassVar[type] = MCCArguments
    arguments: MCCArguments

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the confusion of target people."""
        confusion = class_confusion(self.supported(target.logits), self.arguments.temperature, self.arguments.by_mass)
        return {"confusion": self.arguments.weight * confusion}


def class_confusion(logits: Tensor, temperature: float = 2.5, by_mass: bool = False) -> Tensor:
    """Return the mean off-diagonal entry of the 2×2 correlation matrices of classes, with rows normalised to 1.

    People have the weight ``1 + exp(-H)`` without gradient, where H is the entropy of their prediction of the class.

    Args:
        logits: ``(K, C)``; the result is 0 for K = 0.
        temperature: divisor of the logits.
        by_mass: weight classes by their mean probability, without gradient, and not equally.
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
