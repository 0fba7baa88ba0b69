"""Consistency of the predictions for one person under different camera rolls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Knowledge, Losses, Task, forward_both, split_prediction
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.roll_tta import combine_views, confidence_weights
from microg_da.adaptation.teacher import ramp_up
from microg_da.adaptation.views import first_clips, in_view
from microg_da.config import AugmentConfig
from microg_da.data.batches import concatenate_batches
from microg_da.errors import unknown_name
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch, LabelledClipBatch, Prediction

ANCHORS = ("mean", "confident", "upright", "none")
DISTANCES = ("divergence", "squared")


@dataclass
class RotationConsistencyArguments:
    """Settings of :class:`RotationConsistency`.

    Attributes:
        weight: weight of the distance between predictions.
        feature_weight: weight of the distance between features.
        ramp_up: fraction of the stage over which both weights rise.
        rotation: largest angle between the two views, in degrees.
        distance: between predictions: ``divergence`` (symmetric, of Bernoulli distributions) or ``squared`` (difference
            of probabilities).
        anchor: the fixed prediction to which views are drawn: ``mean`` (the mean of both weighted by confidence, see
            :class:`~microg_da.adaptation.roll_tta.RollTTA`), ``confident`` (for each person the view with the largest
            probability), ``upright`` (the clip before the roll) or ``none`` (both views have gradients). For features,
            ``mean`` is equal to ``none``.
    """

    weight: float = 0.1
    feature_weight: float = 0.02
    ramp_up: float = 0.3
    rotation: float = 180.0
    distance: str = "divergence"
    anchor: str = "mean"


class RotationConsistency(DomainAdaptation):
    """Makes predictions and features of target people consistent between a clip and the clip at a random roll.

    Each class is a separate Bernoulli variable, so that predictions are compared for each class in the support. Half of
    the target clips are used, with two views each, so that a step has the cost of one view of all target clips.

    This method is not from a paper. With a weight of 1 and the ``confident`` anchor, it costs nine points of target mAP
    on the embedded data, since the most confident view is often wrong and no other term corrects it. The default anchor
    is therefore the mean of the views, as in averaging over rolls at test time.

    Consistency under perturbation: Sajjadi et al., "Regularization with stochastic transformations and perturbations
    for deep semi-supervised learning", NIPS 2016; with one view fixed: Miyato et al., "Virtual adversarial
    training", TPAMI 41, 2019.
    """

    Arguments: ClassVar[type] = RotationConsistencyArguments
    arguments: RotationConsistencyArguments
    needs_encoder = "rolls the clips of each step by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: RotationConsistencyArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.distance not in DISTANCES:
            raise unknown_name("distance", arguments.distance, DISTANCES, where="adaptation.args.distance")
        if arguments.anchor not in ANCHORS:
            raise unknown_name("anchor", arguments.anchor, ANCHORS, where="adaptation.args.anchor")
        self.roll = AugmentConfig(flip=0.0, scale=[1.0, 1.0], colour=0.0, rotation=arguments.rotation)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss and the two distances between views of target people."""
        upright = first_clips(target, (len(target) + 1) // 2)
        rolled = augment_batch(upright, self.roll)
        of_source, of_target = forward_both(detector, source, concatenate_batches(upright, rolled))
        seen = in_view(upright.boxes, rolled.boxes)
        consistency = self.consistency(*split_prediction(of_target, upright.num_boxes), seen)
        rise = ramp_up(progress, self.arguments.ramp_up)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            **{name: rise * loss for name, loss in consistency.items()},
        }

    def consistency(self, upright: Prediction, rolled: Prediction, seen: Tensor) -> Losses:
        """Return the weighted distances between two views of the same ``K`` people.

        Args:
            upright: predictions before the roll.
            rolled: predictions after it.
            seen: ``(K,)`` 1 for people who are still in the frame.
        """
        first, second = anchored(upright, rolled, self.arguments.anchor)
        distance = symmetric_divergence if self.arguments.distance == "divergence" else squared_difference
        views = self.supported(first.logits), self.supported(second.logits)
        if self.arguments.anchor == "mean":
            middle = mean_view(*views)
            predictions = 0.5 * (distance(views[0], middle) + distance(views[1], middle))
        else:
            predictions = distance(*views)
        return {
            "consistency": self.arguments.weight * seen_mean(predictions, seen),
            "feature_consistency": self.arguments.feature_weight
            * seen_mean(cosine_distance(first.features, second.features), seen),
        }


def anchored(first: Prediction, second: Prediction, anchor: str) -> tuple[Prediction, Prediction]:
    """Return two views of the same people, where one view of each person has no gradient.

    Args:
        first: the view before the roll.
        second: the view after it.
        anchor: see :class:`RotationConsistencyArguments`.
    """
    if anchor in ("none", "mean"):
        return first, second
    if anchor == "upright":
        return Prediction(*(part.detach() for part in first)), second
    surest = [view.logits.detach().amax(dim=1, keepdim=True) for view in (first, second)]
    fixed = surest[0] >= surest[1]
    return (
        Prediction(*(torch.where(fixed, part.detach(), part) for part in first)),
        Prediction(*(torch.where(fixed, part, part.detach()) for part in second)),
    )


@torch.no_grad()
def mean_view(first: Tensor, second: Tensor) -> Tensor:
    """Return logits ``(K, C)`` of the mean probabilities of two views, weighted by confidence."""
    views = torch.stack([first.float(), second.float()])
    return combine_views(views, confidence_weights(views, temperature=1.0), "confident")


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return half the sum of both Kullback–Leibler divergences of Bernoulli distributions, averaged over classes.

    Args:
        first: ``(K, C)`` logits.
        second: ``(K, C)`` logits.

    Returns:
        ``(K,)`` in nats.
    """
    first, second = first.float(), second.float()
    # KL(p‖q) + KL(q‖p) = (p - q)(logit p - logit q), which is exact for confident predictions.
    return 0.5 * ((first.sigmoid() - second.sigmoid()) * (first - second)).mean(dim=1)


def squared_difference(first: Tensor, second: Tensor) -> Tensor:
    """Squared difference of probabilities; arguments and result as in :func:`symmetric_divergence`."""
    return (first.float().sigmoid() - second.float().sigmoid()).square().mean(dim=1)


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """``(K,)`` of 1 minus the cosine between two ``(K, D)`` features."""
    return 1 - F.cosine_similarity(first.float(), second.float(), dim=1)


def seen_mean(values: Tensor, seen: Tensor) -> Tensor:
    """Return the mean of ``(K,)`` values over people with ``seen`` = 1; 0 with zero gradient without such people."""
    return (values * seen).sum() / seen.sum().clamp(min=1)
