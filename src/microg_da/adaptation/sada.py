"""Class-wise domain-adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from microg_da.adaptation.base import Losses, Task
from microg_da.adaptation.dann import (
    Adversarial,
    DANNArguments,
    balanced_domain_loss,
    build_domain_classifier,
    reverse_gradient,
)
from microg_da.types import Prediction


@dataclass
class SADAArguments(DANNArguments):
    """Settings of :class:`SADA`, in addition to those of :class:`~microg_da.adaptation.dann.DANN`.

    Attributes:
        hidden_dim: width of each domain classifier; there is one for each class in the support.
    """

    hidden_dim: int = 64


class SADA(Adversarial):
    """Aligns the features of people of both domains class by class, with one domain classifier for each class.

    The classifier of class c weights a source person by the label ``y_c`` and a target person by the predicted
    probability ``p_c``. With the cross-entropies ``l`` of the domain, the loss is::

        1/2 sum_ic y_ic l_ic / sum_ic y_ic  +  1/2 sum_jc p_jc l_jc / sum_jc p_jc

    Each domain has half the weight. The weight of a class depends on its people in the domain. Classes outside the
    support have no classifier. The probabilities have no gradient.

    Pujol-Perich, Clapés and Escalera, "SADA: Semantic adversarial unsupervised domain adaptation for temporal action
    localization", WACV 2025; weights after Pei et al., "Multi-adversarial domain adaptation", AAAI 2018.

    Deviations from the papers:

    - SADA aligns segments of video by pseudo-labels, and aligns background segments separately. Here all boxes contain
      people, so there is no background. A person contributes to every class by its probability, as in the second paper.
      The loss was not compared with the code of SADA's authors.
    - The second paper multiplies features by the softmax probability before the classifier of the class. Here the
      sigmoid probability weights the cross-entropy, and on the source labels replace probabilities.
    - The default weight and the warm-up are those of :class:`~microg_da.adaptation.dann.DANN`.
    """

    Arguments: ClassVar[type] = SADAArguments
    arguments: SADAArguments

    def __init__(self, arguments: SADAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.domain_classifiers = nn.ModuleList(
            build_domain_classifier(task.feature_dim, arguments.hidden_dim) for _ in range(sum(task.support))
        )

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the domain loss. Its gradient is reversed and scaled before the detector."""
        strength = self.strength(progress)
        of_source, of_target = (self.domain_logits(each.features, strength) for each in (source, target))
        probabilities = self.supported(target.logits).detach().float().sigmoid()
        return {"domain": class_wise_domain_loss(of_source, of_target, self.supported(labels), probabilities)}

    def domain_logits(self, features: Tensor, strength: float) -> Tensor:
        """Return the domain logits ``(K, C')`` of each person, by the classifier of each class in the support."""
        reversed_features = reverse_gradient(features, strength)
        return torch.cat([classifier(reversed_features) for classifier in self.domain_classifiers], dim=1).float()


def class_wise_domain_loss(source: Tensor, target: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
    """Return the domain cross-entropy over pairs of person and class; a domain without pairs adds 0.

    Args:
        source: ``(K_s, C)`` domain logits of source people.
        target: ``(K_t, C)`` domain logits of target people.
        labels: ``(K_s, C)`` in {0, 1}: the weights of source pairs.
        probabilities: ``(K_t, C)`` in (0, 1]: the weights of target pairs.
    """
    return balanced_domain_loss(source[labels > 0], target.flatten(), target_weights=probabilities.flatten())
