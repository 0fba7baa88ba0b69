"""Classifier discrepancy without a discriminator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Losses, forward_both, with_short_warmup
from microg_da.adaptation.dann import reversal_schedule, reverse_gradient
from microg_da.adaptation.gaussian_mixture import fit_two_gaussians, squared_frechet_distance
from microg_da.adaptation.losses import multilabel_bce, nothing
from microg_da.config import TrainingConfig
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class DDAMLICArguments:
    """Settings of :class:`DDAMLIC`.

    Attributes:
        weight: largest weight of the discrepancy.
        negative: relative weight of the component of low probabilities.
        positive: relative weight of the component of high probabilities.
        gamma: rate of increase of the weight, see :func:`microg_da.adaptation.dann.reversal_schedule`.
        per_class: whether mixtures are fitted for each class. The authors' code fits one mixture to the probabilities
            of all classes, since one or two people with a class in a batch are too few for a second component.
    """

    weight: float = 0.1
    negative: float = 1.0
    positive: float = 1.0
    gamma: float = 10.0
    per_class: bool = False


class DDAMLIC(DomainAdaptation):
    """DDA-MLIC: matches the distributions of probabilities in both domains, with the classifier as the critic.

    Sigmoid probabilities cluster near 0 and near 1. Those of each domain are modelled as a mixture of two Gaussians.
    The discrepancy is the squared Fréchet distance between the low components plus that between the high components.
    The classifier maximises it, and the layers before the classifier minimise it. The gradient reaches the
    probabilities through the means and variances of the fitted components.

    Singh et al., "Discriminator-free unsupervised domain adaptation for multi-label image classification", WACV 2024.

    Deviations from the paper:

    - Probabilities are those of people, for the classes in the support.
    - The mixtures are fitted by the expectation–maximisation in :mod:`microg_da.adaptation.gaussian_mixture`. The
      weight rises as in domain-adversarial training.
    """

    Arguments: ClassVar[type] = DDAMLICArguments
    arguments: DDAMLICArguments

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Limit the warm-up to a tenth of the stage."""
        return with_short_warmup(training)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised loss and the discrepancy, whose gradient has the opposite sign in the classifier."""
        of_source, of_target = forward_both(detector, source, target)
        features = torch.cat([of_source.features, of_target.features])
        # The gradient is reversed twice, so that only the classifier in between maximises the discrepancy.
        critic = reverse_gradient(detector.head.projection(reverse_gradient(features, 1.0)), 1.0)
        count = source.num_boxes
        strength = self.arguments.weight * reversal_schedule(progress, self.arguments.gamma)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "discrepancy": strength * self.discrepancy(critic[:count], critic[count:]),
        }

    def discrepancy(self, source_logits: Tensor, target_logits: Tensor) -> Tensor:
        """Return the weighted discrepancy between the logits ``(K_s, C)`` and ``(K_t, C)`` of both domains."""
        settings = self.arguments
        logits = self.supported(source_logits), self.supported(target_logits)
        distances = component_distances(*logits, per_class=settings.per_class)
        distance: Tensor = settings.negative * distances[0] + settings.positive * distances[1]
        return distance


def component_distances(source_logits: Tensor, target_logits: Tensor, *, per_class: bool = False) -> Tensor:
    """Return ``(2,)`` squared Fréchet distances of the low and the high component; 0 if a domain has no people.

    Args:
        source_logits: ``(K_s, C)``.
        target_logits: ``(K_t, C)``.
        per_class: fit each class separately and average the distances over classes.
    """
    if not len(source_logits) or not len(target_logits):
        return nothing(source_logits, target_logits).expand(2)
    probabilities = [torch.sigmoid(logits.float()) for logits in (source_logits, target_logits)]
    if not per_class:
        probabilities = [values.reshape(-1, 1) for values in probabilities]
    mixtures = [fit_two_gaussians(values) for values in probabilities]
    return squared_frechet_distance(*mixtures).mean(dim=1)
