"""Base of the source-free methods in which a teacher labels target people for a student."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import SourceFreeAdaptation, Task
from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabels
from microg_da.adaptation.source_free import predict_all
from microg_da.adaptation.teacher import Teacher, TeacherHolder
from microg_da.adaptation.views import in_view
from microg_da.config import AugmentConfig
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch

LEAST_VISIBLE = 0.25
"""People of whom a smaller share is left in the student's view teach nothing; zoom alone leaves 0.7."""


@dataclass
class SourceFreeTeacherArguments:
    """Settings of source-free methods with a teacher.

    Attributes:
        weight: of the loss.
        decay: of the teacher's moving average.
        positive: see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`.
        negative: likewise.
        memory: likewise.
        strong_colour: largest relative change of brightness, contrast and saturation in the student's view.
    """

    weight: float = 1.0
    decay: float = 0.999
    positive: float = 0.5
    negative: float = 2.0
    memory: int = 1024
    strong_colour: float = 0.4


class SourceFreeTeacher(TeacherHolder, SourceFreeAdaptation):
    """The teacher, a moving average of the student, is what is validated and handed over.

    Classes have two thresholds by rank, at the rates that the source model expects of them on the target; see
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
        """Thresholds of the method's settings, for one who labels."""
        arguments = self.arguments
        return ClassThresholds(self.task.num_classes, arguments.positive, arguments.negative, arguments.memory)

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Make the source model the teacher, and its word on the target the class rates."""
        self.teacher = Teacher(detector, self.arguments.decay)
        expected = predict_all(detector, target).logits.sigmoid()
        self.find_support(expected)
        for part in self.modules():
            if isinstance(part, ClassThresholds):
                part.expect(expected)

    def label(self, probabilities: Tensor, thresholds: ClassThresholds | None = None) -> PseudoLabels:
        """Pseudo-labels of ``(K, C)`` probabilities, by other thresholds than the method's own if these are given."""
        nobody = probabilities.new_zeros(0, self.task.num_classes)
        return (thresholds or self.thresholds).label(probabilities, nobody, self.support)

    def strong(self, target: ClipBatch) -> tuple[ClipBatch, Tensor]:
        """The student's view, and ``(K, 1)`` in {0, 1} who can be seen in it."""
        view = augment_batch(target, self.strong_view)
        return view, in_view(target.boxes, view.boxes, LEAST_VISIBLE)[:, None]

    def after_training(self, detector: ActionDetector) -> None:
        """Give the detector the teacher's weights; no teacher is held afterwards."""
        detector.load_state_dict(self.current_teacher.network.state_dict())
        self.teacher = None

    def network(self, detector: ActionDetector) -> ActionDetector:
        """The teacher as long as there is one."""
        return detector if self.teacher is None else self.teacher.network
