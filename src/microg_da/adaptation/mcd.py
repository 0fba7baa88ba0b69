"""Maximum classifier discrepancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from microg_da.adaptation.base import DomainAdaptation, Losses, Task, forward_both, with_short_warmup
from microg_da.adaptation.dann import reversal_schedule, reverse_gradient
from microg_da.adaptation.losses import multilabel_bce, nothing
from microg_da.config import TrainingConfig
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class MCDArguments:
    """Settings of :class:`MCD`.

    Attributes:
        weight: largest weight of the discrepancy.
        gamma: how fast the weight rises, see :func:`microg_da.adaptation.dann.reversal_schedule`.
        own_lr: factor of the learning rate of the second classifier, which begins untrained.
    """

    weight: float = 0.1
    gamma: float = 10.0
    own_lr: float = 1.0


class MCD(DomainAdaptation):
    """Two classifiers that agree on the source disagree about target people far from it; features undo that.

    Both classifiers learn the source's labels. On the target they learn to differ, and the layers before them learn
    features about which they agree. The discrepancy is the mean absolute difference of their probabilities.

    Saito et al., "Maximum classifier discrepancy for unsupervised domain adaptation", CVPR 2018.

    Deviations from the paper:

    - The discrepancy is the mean over the sigmoids of the classes in the support, where the paper has a softmax.
    - All parts learn in one step by gradient reversal, which the authors' program has as an option, instead of in three
      steps; the weight rises as that of a domain classifier does.
    - The first classifier is the detector's own, which the source stage has trained. It alone is handed over.
    """

    Arguments: ClassVar[type] = MCDArguments
    arguments: MCDArguments

    def __init__(self, arguments: MCDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.second = nn.Linear(task.feature_dim, task.num_classes)

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """A warm-up of at most a tenth of the stage."""
        return with_short_warmup(training)

    @property
    def own_lr_scale(self) -> float:
        """That of the second classifier."""
        return self.arguments.own_lr

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """The supervised loss of both classifiers, and the discrepancy, which the classifiers climb."""
        of_source, of_target = forward_both(detector, source, target)
        # Reversed twice: only the classifiers, which lie between, climb.
        features = reverse_gradient(of_target.features, 1.0)
        classifiers = (detector.head.projection, self.second)
        answers = [reverse_gradient(self.supported(classifier(features)), 1.0) for classifier in classifiers]
        strength = self.arguments.weight * reversal_schedule(progress, self.arguments.gamma)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "second": multilabel_bce(self.second(of_source.features), source.labels),
            "discrepancy": strength * classifier_discrepancy(*answers),
        }


def classifier_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of the probabilities of ``(K, C)`` logits of two classifiers; 0 without people."""
    if not len(first):
        return nothing(first, second)
    return (torch.sigmoid(first.float()) - torch.sigmoid(second.float())).abs().mean()
