"""Calibration of ambiguous people by prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import Losses, Task, TestTimeMethod, detect
from microg_da.adaptation.prototypes import Prototypes, directions
from microg_da.adaptation.source_free import SourceFree, SourceFreeArguments, mean_or_zero
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction


@dataclass
class PrototypeCalibrationArguments(SourceFreeArguments):
    """Settings of :class:`PrototypeCalibration`, in addition to those of all source-free methods.

    Attributes:
        calibration_weight: weight of the loss that pulls and pushes ambiguous people.
        diversity_weight: weight of the similarity between prototypes of classes in one group.
        temperature: temperature of cosine similarities in the calibration.
        rectification: factor of the prototype scores that are added to the logits at prediction time.
    """

    calibration_weight: float = 0.05
    diversity_weight: float = 0.0
    temperature: float = 0.1
    rectification: float = 0.1


class PrototypeCalibration(SourceFree):
    """Calibrates people with inconsistent predictions of a group and its actions by prototypes.

    Groups are movement, object manipulation and person interaction. Prototypes of groups predict the groups, and the
    classifier predicts the actions. Both are sigmoids, so that a person may have several of each, and each pair of a
    person and a class is ambiguous or not. A predicted class whose group is not predicted is a false positive: the
    person is pushed away from the prototype of the class. If a group is predicted without any of its classes, the class
    with the nearest prototype is a false negative: the person is pulled towards this prototype. Prototypes in one group
    are separated. At prediction time similarities to prototypes rectify the logits.

    This combination is not from a paper. PCAN is a supervised method of action recognition: Li et al., "Prototypical
    calibrating ambiguous samples for micro-action recognition", AAAI 2025. Its terms are added to the losses of
    :class:`~microg_da.adaptation.shot.SHOT`, which replace its labels. With weights of 0.3 and 0.1, the terms cost 1.8
    points of target mAP on the embedded data; the defaults are therefore small.
    """

    Arguments: ClassVar[type] = PrototypeCalibrationArguments
    arguments: PrototypeCalibrationArguments
    has_companion: ClassVar[bool] = True
    groups: Tensor

    def __init__(self, arguments: PrototypeCalibrationArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.temperature <= 0:
            raise InputError(f"adaptation.args.temperature={arguments.temperature:g}: expected a positive number.")
        groups = F.one_hot(torch.tensor(self.task.class_groups, dtype=torch.long)).bool()
        self.register_buffer("groups", groups, persistent=False)
        self.group_prototypes = Prototypes(groups.shape[1], task.feature_dim, arguments.memory)
        self.rectification = PrototypeRectification(arguments, task, self.prototypes)

    def start(self, features: Tensor, probabilities: Tensor) -> None:
        """Initialise the prototypes of classes and groups; a class outside the support belongs to no group."""
        super().start(features, probabilities)
        self.groups &= self.support[:, None]
        self.group_prototypes.start(features, group_probabilities(probabilities, self.groups))

    def labelled_losses(self, target: Prediction, labels: Tensor | None, progress: float) -> Losses:
        """Return ``calibration``, ``diversity``, ``entropy``, ``prior`` and ``pseudo_label``."""
        arguments = self.arguments
        features, probabilities = target.features.float(), torch.sigmoid(target.logits.float())
        present = self.group_prototypes.scores(features.detach()) > 0
        class_scores = self.prototypes.scores(features.detach())
        positive, negative = ambiguous(probabilities > 0.5, present, class_scores, self.groups)
        # Before the update of prototypes, so that no person is compared with its own contribution.
        margins = self.prototypes.margins(features)
        losses, sums = self.information_losses(target, labels)
        self.group_prototypes.update(features.detach(), group_probabilities(probabilities.detach(), self.groups))
        calibration = calibration_loss(margins, positive, negative, arguments.temperature)
        diversity = prototype_similarity(directions(sums)[0], self.groups)
        return {
            "calibration": arguments.calibration_weight * calibration,
            "diversity": arguments.diversity_weight * diversity,
            **losses,
        }

    @property
    def companion(self) -> PrototypeRectification:
        """Return :class:`PrototypeRectification` with the trained prototypes."""
        return self.rectification


class PrototypeRectification(TestTimeMethod):
    """Adds similarities to prototypes to the logits.

    Args:
        arguments: arguments of :class:`PrototypeCalibration`.
        task: facts about the detector and the labels.
        prototypes: the prototypes of the training method; None creates empty ones, for loading.
    """

    Arguments: ClassVar[type] = PrototypeCalibrationArguments
    arguments: PrototypeCalibrationArguments

    def __init__(
        self, arguments: PrototypeCalibrationArguments, task: Task, prototypes: Prototypes | None = None
    ) -> None:
        super().__init__(arguments, task)
        self.prototypes = prototypes or Prototypes(task.num_classes, task.feature_dim, arguments.memory)

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Return rectified logits."""
        prediction = detect(detector, batch)
        scores = self.prototypes.scores(prediction.features) * self.support
        return Prediction(prediction.logits.float() + self.arguments.rectification * scores, prediction.features)


def group_probabilities(probabilities: Tensor, groups: Tensor) -> Tensor:
    """Return the probability ``(K, G)`` of at least one class in each group, for independent classes.

    Args:
        probabilities: ``(K, C)``.
        groups: ``(C, G)`` bool, the membership of classes in groups.
    """
    without = torch.where(groups, 1 - probabilities[:, :, None], 1.0)
    return 1 - without.prod(dim=1)


def ambiguous(predicted: Tensor, present: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Find pairs of a person and a class with inconsistent predictions of class and group.

    Args:
        predicted: ``(K, C)`` bool, the classes that are predicted.
        present: ``(K, G)`` bool, the groups that are predicted.
        scores: ``(K, C)``, larger for nearer prototypes.
        groups: ``(C, G)`` bool, the membership of classes in groups.

    Returns:
        False positives and false negatives, both ``(K, C)`` bool.
    """
    in_present = (present[:, None] & groups).any(dim=2)
    missed = present & ~(predicted[:, :, None] & groups).any(dim=1)
    nearest = torch.where(groups, scores[:, :, None], -torch.inf).argmax(dim=1)
    is_nearest = F.one_hot(nearest, len(groups)).mT.bool() & groups
    return predicted & ~in_present, (is_nearest & missed[:, None]).any(dim=2)


def calibration_loss(margins: Tensor, false_positives: Tensor, false_negatives: Tensor, temperature: float) -> Tensor:
    """Return the contrastive loss that pulls false negatives to prototypes and pushes false positives away.

    Each kind is averaged over its pairs, and both means are added.

    Args:
        margins: ``(K, C)`` similarity to the positive prototype minus similarity to the negative prototype.
        false_positives: ``(K, C)`` bool.
        false_negatives: ``(K, C)`` bool.
        temperature: temperature of similarities.
    """
    pull = F.softplus(-margins[false_negatives] / temperature)
    push = F.softplus(margins[false_positives] / temperature)
    return mean_or_zero(pull) + mean_or_zero(push)


def prototype_similarity(prototypes: Tensor, groups: Tensor) -> Tensor:
    """Return the mean cosine similarity of different prototypes in one group; 0 if all groups have one class.

    Args:
        prototypes: ``(C, D)`` of norm 1.
        groups: ``(C, G)`` bool, the membership of classes in groups.
    """
    same = (groups[:, None] & groups).any(dim=2) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    with torch.autocast(prototypes.device.type, enabled=False):
        return mean_or_zero((prototypes @ prototypes.T)[same])
