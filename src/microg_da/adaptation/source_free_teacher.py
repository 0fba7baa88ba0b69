"""Base of the source-free methods in which a teacher labels target people for a student."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import Task
from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabels
from microg_da.adaptation.source_free import SmallLossAdaptation, predict_all
from microg_da.adaptation.teacher import Teacher, TeacherHolder
from microg_da.adaptation.views import in_view
from microg_da.config import AugmentConfig
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch

LEAST_VISIBLE = 0.25
"""Minimum visible share of a person in the student's view for a loss. With zoom alone, the share is at least 0.7."""


@dataclass
class SourceFreeTeacherArguments:
    """Settings of source-free methods with a teacher.

    Attributes:
        weight: weight of the loss.
        decay: decay of the teacher's moving average.
        positive: see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`.
        negative: see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`.
        memory: see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`.
        strong_colour: maximum relative change of brightness, contrast and saturation in the student's view.
        lr: learning rate of the stage, which uses SGD; null for ``adaptation.lr``. AdamW moves the student by full
            steps where labels and predictions hardly differ, and the source model is forgotten.
    """

    weight: float = 1.0
    decay: float = 0.999
    positive: float = 0.5
    negative: float = 2.0
    memory: int = 1024
    strong_colour: float = 0.4
    lr: float | None = None


class SourceFreeTeacher(TeacherHolder, SmallLossAdaptation):
    """Base class of source-free methods with a teacher, the moving average of the student, which is validated and kept.

    Each class has two thresholds by rank, at the rate that the source model predicts for the class on the target; see
    :meth:`new_thresholds`. The student's view is mirrored, zoomed and recoloured.
    """

    Arguments: ClassVar[type] = SourceFreeTeacherArguments
    arguments: SourceFreeTeacherArguments

    def __init__(self, arguments: SourceFreeTeacherArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.teacher = None
        self.thresholds = self.new_thresholds()
        self.strong_view = AugmentConfig(flip=0.5, scale=[0.8, 1.2], colour=arguments.strong_colour)

    def new_thresholds(self) -> ClassThresholds:
        """Return new thresholds by the settings of the method."""
        arguments = self.arguments
        return ClassThresholds(self.task.num_classes, arguments.positive, arguments.negative, arguments.memory)

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Use the source model as the teacher, and its predictions on the target as class rates."""
        self.teacher = Teacher(detector, self.arguments.decay)
        expected = predict_all(detector, target).logits.sigmoid()
        self.find_support(expected)
        for part in self.modules():
            if isinstance(part, ClassThresholds):
                part.expect(expected)

    def label(self, probabilities: Tensor, thresholds: ClassThresholds | None = None) -> PseudoLabels:
        """Return pseudo-labels for ``(K, C)`` probabilities, by given thresholds or those of the method."""
        no_people = probabilities.new_zeros(0, self.task.num_classes)
        return (thresholds or self.thresholds).label(probabilities, no_people, self.support)

    def strong(self, target: ClipBatch) -> tuple[ClipBatch, Tensor]:
        """Return the student's view, and the visibility ``(K, 1)`` in {0, 1} of the people in it."""
        view = augment_batch(target, self.strong_view)
        return view, in_view(target.boxes, view.boxes, LEAST_VISIBLE)[:, None]

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the teacher's weights to the detector, and delete the teacher."""
        detector.load_state_dict(self.current_teacher.network.state_dict())
        self.teacher = None

    def network(self, detector: ActionDetector) -> ActionDetector:
        """Return the teacher while it exists, else the detector."""
        return detector if self.teacher is None else self.teacher.network
