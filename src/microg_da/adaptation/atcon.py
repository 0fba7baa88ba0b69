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
"""Added to a feature's variance, so that one that hardly varies in a batch has no say."""


@dataclass
class ATCoNArguments(SourceFreeArguments):
    """Settings of :class:`ATCoN`, besides those of all methods without source clips.

    Attributes:
        slices: S, temporal slices of the feature maps. They overlap, or repeat themselves, where the maps have fewer
            cells along time (2 in the default network).
        feature_weight: of the consistency of features across slices.
        prediction_weight: of the consistency of predictions across slices.
        redundancy: weight of what different features have in common, next to what the same feature has not.
    """

    entropy_weight: float = 0.5
    prior_weight: float = 0.5
    pseudo_label_weight: float = 0.2
    slices: int = 5
    feature_weight: float = 0.1
    prediction_weight: float = 1.0
    redundancy: float = 0.1


class ATCoN(SourceFree):
    """Temporal slices of a person agree with each other, and those that are surer count for more.

    Local temporal features are those of a person in slices of the feature maps. Across slices features are to be
    correlated (each with itself, and with no other), and so is what the source model's classifier, which is not
    trained, says of them. A clip's prediction is made of the slices weighted by confidence, in training and in test;
    with equal weights it is the plain detector's. To it are added the information maximisation and the pseudo-labels of
    :class:`~microg_da.adaptation.shot.SHOT`, at half and two thirds of their weights there.

    Xu et al., "Source-free video domain adaptation by learning temporal consistency for action recognition",
    ECCV 2022.

    Deviations from the paper and the authors' program:

    - All of :class:`~microg_da.adaptation.shot.SHOT`'s; pseudo-labels are of every epoch, not of each tenth.
    - Slices of the feature maps take the place of the relations between 2 to 5 frames of a temporal relation network.
    - Divergences and entropies are means over the classes in the support. The program sums over a softmax and gives the
      consistency of predictions a weight of 18; here it is 1.
    - The consistency of features is of standardised features and means over entries, where the program has sums of
      products of features after a batch-normalised bottleneck.
    - A clip's prediction is that of the weighted mean of the slices' maps; the program adds the mean of the slices'
      weighted predictions to it.
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
        """``feature_consistency``, ``prediction_consistency``, ``entropy``, ``prior`` and ``pseudo_label``."""
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
        """Slices weighted by confidence, as in training."""
        return self.attention


class SliceAttention(TestTimeMethod):
    """A person's prediction is made of temporal slices weighted by confidence."""

    Arguments: ClassVar[type] = ATCoNArguments
    arguments: ATCoNArguments

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Slices weighted by confidence."""
        return self.predict_slices(detector, batch)[1]

    def predict_slices(self, detector: ActionDetector, batch: ClipBatch) -> tuple[Prediction, Prediction]:
        """Predictions of the slices, ``(K, S, C)`` and ``(K, S, D)``, and those of the whole clip."""
        local, grids = detector.local_predictions(batch.frames, batch.boxes, batch.clip_index, self.arguments.slices)
        weights = confidence_weights(self.supported(local.logits))
        whole = (weights[:, :, None, None, None] * grids).sum(dim=1)
        return local, Prediction(*detector.head.classify(whole))


def feature_consistency(features: Tensor, redundancy: float) -> Tensor:
    """How far the correlation between two slices' features is from the identity matrix, mean over pairs of slices.

    Squared distances of the diagonal from 1 and, weighing ``redundancy``, of the rest from 0; each part is a mean.
    0 with fewer than two people or slices: there is nothing to correlate.

    Args:
        features: ``(K, S, D)``.
        redundancy: weight of what is off the diagonal.
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
    """Divergence of the mean prediction from each slice's, KL(mean ‖ slice), mean over people, slices and classes.

    Slices count by their confidence among the slices of the person, as in :func:`confidence_weights`. Slice and mean
    both carry a gradient, the weights do not.

    Args:
        logits: ``(K, S, C)``.
    """
    probabilities = torch.sigmoid(logits.float())
    mean = probabilities.mean(dim=1, keepdim=True).expand_as(probabilities)
    weights = logits.shape[1] * confidence_weights(logits)
    return mean_or_zero(weights[:, :, None] * bernoulli_divergence(mean, probabilities))


@torch.no_grad()
def confidence_weights(logits: Tensor) -> Tensor:
    """``(K, S)`` weights of slices, 1 + confidence, that add up to 1; confidence is 1 − entropy / ln 2, over classes.

    Args:
        logits: ``(K, S, C)``.
    """
    weights = 2 - bernoulli_entropy(logits.float()).mean(dim=2) / math.log(2)
    return weights / weights.sum(dim=1, keepdim=True)
