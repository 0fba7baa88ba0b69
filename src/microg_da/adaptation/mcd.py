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
        gamma: rate of increase of the weight, see :func:`microg_da.adaptation.dann.reversal_schedule`.
        own_lr: factor of the learning rate of the second classifier, which is initialised at random.
    """

    weight: float = 0.1
    gamma: float = 10.0
    own_lr: float = 1.0


class MCD(DomainAdaptation):
    """Maximises the discrepancy of two classifiers on the target, and minimises it by the features.

    Both classifiers are trained on source labels. On the target the classifiers maximise their discrepancy, the mean
    absolute difference of probabilities, and the layers before them minimise it.

    Saito et al., "Maximum classifier discrepancy for unsupervised domain adaptation", CVPR 2018.

    Deviations from the paper:

    - The discrepancy is the mean over the sigmoids of the classes in the support, and not of a softmax.
    - All parts are trained in one step by gradient reversal, an option in the authors' code, instead of in three steps.
      The weight rises as in domain-adversarial training.
    - The first classifier is that of the detector, trained in the source stage. Only this classifier is kept.
    """

    Arguments: ClassVar[type] = MCDArguments
    arguments: MCDArguments

    def __init__(self, arguments: MCDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.second = nn.Linear(task.feature_dim, task.num_classes)

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Limit the warm-up to a tenth of the stage."""
        return with_short_warmup(training)

    @property
    def own_lr_scale(self) -> float:
        """The factor for the second classifier."""
        return self.arguments.own_lr

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised loss of both classifiers, and the discrepancy, which the classifiers maximise."""
        of_source, of_target = forward_both(detector, source, target)
        # The gradient is reversed twice, so that only the classifiers in between maximise the discrepancy.
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
    """Return the mean absolute difference of the probabilities of two ``(K, C)`` logits; 0 without people."""
    if not len(first):
        return nothing(first, second)
    return (torch.sigmoid(first.float()) - torch.sigmoid(second.float())).abs().mean()
