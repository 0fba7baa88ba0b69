"""What the methods without source clips share: a frozen classifier, class rates, prototypes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import SourceFreeAdaptation, Task, detect
from microg_da.adaptation.losses import bernoulli_entropy, multilabel_bce
from microg_da.adaptation.prototypes import Prototypes
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

PROBABILITY_FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logarithm."""


@dataclass
class SourceFreeArguments:
    """Settings that all methods without source clips have.

    Attributes:
        entropy_weight: of the entropy of single predictions.
        prior_weight: of the divergence of the classes' running rates from the source model's.
        pseudo_label_weight: of the cross-entropy with pseudo-labels.
        memory: what is left of the running rates and prototypes after a batch.
    """

    entropy_weight: float = 1.0
    prior_weight: float = 1.0
    pseudo_label_weight: float = 0.3
    memory: float = 0.95


class SourceFree(SourceFreeAdaptation):
    """Base of the methods that train on unlabelled target clips with the source model's classifier as it is.

    Before training the source model looks at the target once: the mean of its predictions is the class prior, and
    the prototypes begin as what it believes.
    """

    Arguments: ClassVar[type] = SourceFreeArguments
    arguments: SourceFreeArguments

    def __init__(self, arguments: SourceFreeArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.memory < 1:
            raise InputError(f"adaptation.args.memory={arguments.memory:g}: expected a share in [0, 1).")
        self.prototypes = Prototypes(task.num_classes, task.feature_dim, arguments.memory)

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Freeze the classifier and take the class prior and the first prototypes; source clips are not opened."""
        detector.head.projection.requires_grad_(False)
        prediction = predict_all(detector, target)
        if len(prediction.logits):
            probabilities = torch.sigmoid(prediction.logits)
            self.find_support(probabilities)
            self.start(prediction.features, probabilities)
        else:
            # Of nobody seen the classifier's own bias is the best guess.
            self.prototypes.rate.copy_(torch.sigmoid(detector.head.projection.bias.detach()))

    def start(self, features: Tensor, probabilities: Tensor) -> None:
        """Begin from the source model's word on all target people: ``features`` (N, D), ``probabilities`` (N, C)."""
        self.prototypes.start(features, probabilities)

    def after_training(self, detector: ActionDetector) -> None:
        """The classifier may be trained again."""
        detector.head.projection.requires_grad_(True)

    def information_losses(self, prediction: Prediction) -> tuple[dict[str, Tensor], Tensor]:
        """Information maximisation and pseudo-labels; lets the prototypes follow.

        Returns:
            The losses ``entropy``, ``prior`` and ``pseudo_label``, and the prototypes' sums with their gradient.
        """
        arguments = self.arguments
        logits, features = prediction.logits.float(), prediction.features.float()
        labels = (self.prototypes.scores(features.detach()) > 0).float()
        sums = self.prototypes.update(features, torch.sigmoid(logits))
        rates = self.supported(self.prototypes.rate), self.supported(sums[0, :, -1])
        logits, labels = self.supported(logits), self.supported(labels)
        losses = {
            "entropy": arguments.entropy_weight * mean_or_zero(bernoulli_entropy(logits)),
            "prior": arguments.prior_weight * bernoulli_divergence(*rates).mean() * (len(logits) > 0),
            "pseudo_label": arguments.pseudo_label_weight * multilabel_bce(logits, labels),
        }
        return losses, sums


@torch.no_grad()
def predict_all(detector: ActionDetector, clips: Iterable[ClipBatch]) -> Prediction:
    """What a detector says of all people of all clips, in float32."""
    device = detector.head.projection.weight.device
    logits = [torch.zeros(0, detector.num_classes, device=device)]
    features = [torch.zeros(0, detector.feature_dim, device=device)]
    for batch in clips:
        prediction = detect(detector, batch)
        logits.append(prediction.logits.float())
        features.append(prediction.features.float())
    return Prediction(torch.cat(logits), torch.cat(features))


def bernoulli_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Kullback–Leibler divergence KL(p ‖ q) in nats of every class's yes-or-no distribution, elementwise.

    Args:
        p: probabilities, any shape.
        q: probabilities of the same shape.
    """
    p, q = (x.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR) for x in (p, q))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def mean_or_zero(values: Tensor) -> Tensor:
    """The mean; of nothing it is 0, with a gradient of 0."""
    return values.mean() if values.numel() else values.sum()
