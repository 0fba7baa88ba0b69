"""Attentive temporal consistency."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Losses, Task, TestTimeMethod
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.adaptation.source_free import SourceFree, SourceFreeArguments, bernoulli_divergence, mean_or_zero
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

VARIANCE_FLOOR = 1e-4
"""Added to the variance of a feature, so that features that hardly vary in a batch have little weight."""


@dataclass
class ATCoNArguments(SourceFreeArguments):
    """Settings of :class:`ATCoN`, in addition to those of all source-free methods.

    Attributes:
        slices: S, the number of temporal slices of the feature maps. Slices overlap or repeat if the maps have fewer
            cells along time (2 in the default network).
        feature_weight: weight of the consistency of features across slices.
        prediction_weight: weight of the consistency of predictions across slices.
        redundancy: weight of the correlation between different features relative to that of each feature with itself.
    """

    entropy_weight: float = 0.5
    prior_weight: float = 0.5
    pseudo_label_weight: float = 0.2
    slices: int = 5
    feature_weight: float = 0.1
    prediction_weight: float = 1.0
    redundancy: float = 0.1


class ATCoN(SourceFree):
    """Source-free: makes temporal slices of a person consistent, and weights them by confidence.

    The local temporal features of a person come from slices of the feature maps. Two losses make slices consistent: the
    correlation between the features of two slices approaches the identity matrix, and the predictions of the source
    model's frozen classifier for the slices approach each other. The prediction for a clip is that of the slices
    weighted by confidence, in training and in tests; equal weights give the prediction of the plain detector. The
    information maximisation and the pseudo-labels of :class:`~microg_da.adaptation.shot.SHOT` are added, with half and
    two thirds of their weights there.

    Xu et al., "Source-free video domain adaptation by learning temporal consistency for action recognition",
    ECCV 2022.

    Deviations from the paper and the authors' code:

    - All deviations of :class:`~microg_da.adaptation.shot.SHOT`; pseudo-labels are updated in every epoch, not in every
      tenth.
    - Slices of the feature maps replace the relations between 2 to 5 frames of a temporal relation network.
    - Divergences and entropies are means over the classes in the support. The code sums over a softmax and weights
      the consistency of predictions by 18; here the weight is 1.
    - The consistency of features uses standardised features and means over entries. The code uses sums of products of
      features after a batch-normalised bottleneck.
    - The prediction for a clip is that of the weighted mean of the slices' maps; the code adds the mean of the
      weighted predictions of the slices.
    """

    Arguments: ClassVar[type] = ATCoNArguments
    arguments: ATCoNArguments
    has_companion: ClassVar[bool] = True

    def __init__(self, arguments: ATCoNArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.slices < 1:
            raise InputError(f"adaptation.args.slices={arguments.slices}: expected at least 1.")
        self.attention = SliceAttention(arguments, task)

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """Return ``feature_consistency``, ``prediction_consistency``, ``entropy``, ``prior`` and ``pseudo_label``."""
        local, attended = self.attention.predict_slices(detector, target)
        arguments = self.arguments
        losses, _ = self.information_losses(attended, self.labels_of(target))
        features = feature_consistency(local.features, arguments.redundancy)
        predictions = prediction_consistency(self.supported(local.logits))
        return {
            "feature_consistency": arguments.feature_weight * features,
            "prediction_consistency": arguments.prediction_weight * predictions,
            **losses,
        }

    @property
    def companion(self) -> SliceAttention:
        """Return :class:`SliceAttention`, which weights slices by confidence, as in training."""
        return self.attention


class SliceAttention(TestTimeMethod):
    """Predicts each person from temporal slices weighted by confidence."""

    Arguments: ClassVar[type] = ATCoNArguments
    arguments: ATCoNArguments

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Predict from slices weighted by confidence."""
        return self.predict_slices(detector, batch)[1]

    def predict_slices(self, detector: ActionDetector, batch: ClipBatch) -> tuple[Prediction, Prediction]:
        """Return logits ``(K, S, C)`` and features ``(K, S, D)`` of the slices, and the prediction for the clip."""
        local, grids = detector.local_predictions(batch.frames, batch.boxes, batch.clip_index, self.arguments.slices)
        weights = confidence_weights(self.supported(local.logits))
        whole = (weights[:, :, None, None, None] * grids).sum(dim=1)
        return local, Prediction(*detector.head.classify(whole))


def feature_consistency(features: Tensor, redundancy: float) -> Tensor:
    """Return the distance of the correlation between two slices' features from the identity, averaged over pairs.

    The distance is the mean squared difference of the diagonal from 1 plus ``redundancy`` times the mean squared
    off-diagonal entry. It is 0 with fewer than two people or slices.

    Args:
        features: ``(K, S, D)``.
        redundancy: weight of off-diagonal entries.
    """
    K, S, D = features.shape
    features = features.float()
    if K < 2 or S < 2:
        return 0 * features.sum()
    centred = features - features.mean(dim=0)
    scaled = (centred * (centred.square().mean(dim=0) + VARIANCE_FLOOR).rsqrt()).unbind(dim=1)
    distances = []
    for first, second in itertools.combinations(scaled, 2):
        with torch.autocast(features.device.type, enabled=False):
            correlation = first.T @ second / K
        diagonal = correlation.diagonal()
        rest = correlation.square().sum() - diagonal.square().sum()
        distances.append((1 - diagonal).square().mean() + redundancy * rest / max(D * (D - 1), 1))
    return torch.stack(distances).mean()


def prediction_consistency(logits: Tensor) -> Tensor:
    """Return the divergence KL(mean ‖ slice) of predictions, averaged over people, slices and classes.

    Slices are weighted by :func:`confidence_weights`. Both the slices and their mean carry a gradient; the weights do
    not.

    Args:
        logits: ``(K, S, C)``.
    """
    probabilities = torch.sigmoid(logits.float())
    mean = probabilities.mean(dim=1, keepdim=True).expand_as(probabilities)
    weights = logits.shape[1] * confidence_weights(logits)
    return mean_or_zero(weights[:, :, None] * bernoulli_divergence(mean, probabilities))


@torch.no_grad()
def confidence_weights(logits: Tensor) -> Tensor:
    """Return weights ``(K, S)`` of slices, proportional to 1 + confidence = 2 − mean entropy / ln 2, with sum 1.

    Args:
        logits: ``(K, S, C)``.
    """
    weights = 2 - bernoulli_entropy(logits.float()).mean(dim=2) / math.log(2)
    return weights / weights.sum(dim=1, keepdim=True)
