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
    """Settings of :class:`PrototypeCalibration`, besides those of all methods without source clips.

    Attributes:
        calibration_weight: of pulling and pushing ambiguous people.
        diversity_weight: of the similarity between the prototypes of one group's classes.
        temperature: of cosine similarities in the calibration.
        rectification: what prototypes add to the logits at prediction time, for each spread above the threshold.
    """

    calibration_weight: float = 0.05
    diversity_weight: float = 0.0
    temperature: float = 0.1
    rectification: float = 0.1


class PrototypeCalibration(SourceFree):
    """People of whom the group of an action and the action itself are told differently are moved by prototypes.

    Groups are movement, object manipulation and person interaction. The group is told by prototypes of groups, the
    action by the classifier; both are sigmoid, so a person may have several of each and each pair of a person and a
    class is ambiguous or not by itself. A class that is predicted although its group is not there is a false
    positive: the person is pushed from the class's prototype. Where a group is there and none of its classes is
    predicted, the one with the nearest prototype is a false negative: the person is pulled towards it. Prototypes of
    one group are kept apart, and at prediction time similarity to prototypes rectifies the logits.

    This is no method of a paper. PCAN is a supervised method of action recognition: Li et al., "Prototypical
    calibrating ambiguous samples for micro-action recognition", AAAI 2025. Its terms are added here to the losses of
    :class:`~microg_da.adaptation.shot.SHOT`, which take the place of its labels. At weights of 0.3 and 0.1 these terms
    cost 1.8 points of target mAP on the embedded pair, so the defaults are small.
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
        """Begin with prototypes of classes and of groups; a class without support is in no group."""
        super().start(features, probabilities)
        self.groups &= self.support[:, None]
        self.group_prototypes.start(features, group_probabilities(probabilities, self.groups))

    def labelled_losses(self, target: Prediction, labels: Tensor | None, progress: float) -> Losses:
        """``calibration``, ``diversity``, ``entropy``, ``prior`` and ``pseudo_label``."""
        arguments = self.arguments
        features, probabilities = target.features.float(), torch.sigmoid(target.logits.float())
        present = self.group_prototypes.scores(features.detach()) > 0
        class_scores = self.prototypes.scores(features.detach())
        positive, negative = ambiguous(probabilities > 0.5, present, class_scores, self.groups)
        # Before the prototypes follow the batch, so that no person is compared with their own contribution.
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
        """Logits rectified by the prototypes, as trained."""
        return self.rectification


class PrototypeRectification(TestTimeMethod):
    """Similarity to prototypes is added to the logits.

    Args:
        arguments: those of :class:`PrototypeCalibration`.
        task: what is known of the detector and the labels.
        prototypes: the prototypes of the training method; None makes empty ones, to be loaded.
    """

    Arguments: ClassVar[type] = PrototypeCalibrationArguments
    arguments: PrototypeCalibrationArguments

    def __init__(
        self, arguments: PrototypeCalibrationArguments, task: Task, prototypes: Prototypes | None = None
    ) -> None:
        super().__init__(arguments, task)
        self.prototypes = prototypes or Prototypes(task.num_classes, task.feature_dim, arguments.memory)

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Rectified logits."""
        prediction = detect(detector, batch)
        scores = self.prototypes.scores(prediction.features) * self.support
        return Prediction(prediction.logits.float() + self.arguments.rectification * scores, prediction.features)


def group_probabilities(probabilities: Tensor, groups: Tensor) -> Tensor:
    """``(K, G)`` probability of having at least one class of each group, classes being independent.

    Args:
        probabilities: ``(K, C)``.
        groups: ``(C, G)`` bool, which class belongs to which group.
    """
    without = torch.where(groups, 1 - probabilities[:, :, None], 1.0)
    return 1 - without.prod(dim=1)


def ambiguous(predicted: Tensor, present: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a person and a class of which class and group are told differently.

    Args:
        predicted: ``(K, C)`` bool, the classes that are predicted.
        present: ``(K, G)`` bool, the groups that are predicted.
        scores: ``(K, C)``, larger for nearer prototypes.
        groups: ``(C, G)`` bool, which class belongs to which group.

    Returns:
        False positives and false negatives, both ``(K, C)`` bool.
    """
    in_present = (present[:, None] & groups).any(dim=2)
    missed = present & ~(predicted[:, :, None] & groups).any(dim=1)
    nearest = torch.where(groups, scores[:, :, None], -torch.inf).argmax(dim=1)
    is_nearest = F.one_hot(nearest, len(groups)).mT.bool() & groups
    return predicted & ~in_present, (is_nearest & missed[:, None]).any(dim=2)


def calibration_loss(margins: Tensor, false_positives: Tensor, false_negatives: Tensor, temperature: float) -> Tensor:
    """Contrast of the positive with the negative prototype: false negatives are pulled, false positives pushed.

    Each kind is averaged over its own pairs, and the two are added.

    Args:
        margins: ``(K, C)`` similarity to the positive prototype less that to the negative one.
        false_positives: ``(K, C)`` bool.
        false_negatives: ``(K, C)`` bool.
        temperature: of similarities.
    """
    pull = F.softplus(-margins[false_negatives] / temperature)
    push = F.softplus(margins[false_positives] / temperature)
    return mean_or_zero(pull) + mean_or_zero(push)


def prototype_similarity(prototypes: Tensor, groups: Tensor) -> Tensor:
    """Mean cosine similarity of different prototypes of one group; 0 where every class is alone in its group.

    Args:
        prototypes: ``(C, D)`` of length 1.
        groups: ``(C, G)`` bool, which class belongs to which group.
    """
    same = (groups[:, None] & groups).any(dim=2) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    with torch.autocast(prototypes.device.type, enabled=False):
        return mean_or_zero((prototypes @ prototypes.T)[same])
