"""Periodically exchanged teacher and student."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Losses, SourceFreeAdaptation, Task, detect
from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabels, trusted_bce
from microg_da.adaptation.source_free import predict_all
from microg_da.adaptation.teacher import Teacher
from microg_da.adaptation.views import in_view
from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch


@dataclass
class PETSArguments:
    """Settings of :class:`PETS`.

    Attributes:
        weight: of the loss.
        decay: of the dynamic teacher's moving average.
        every: epochs between exchanges of the student and the static teacher.
        positive: see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`.
        negative: likewise.
        memory: likewise.
        strong_colour: largest relative change of brightness, contrast and saturation in the student's view.
    """

    weight: float = 1.0
    decay: float = 0.999
    every: int = 1
    positive: float = 0.5
    negative: float = 2.0
    memory: int = 1024
    strong_colour: float = 0.4


class PETS(SourceFreeAdaptation):
    """Without source clips: two teachers label target people, and the static one changes places with the student.

    A dynamic teacher is the moving average of the student. A static teacher stays as it is for a period, and then
    exchanges its weights with the student's: a student that went astray is set aside, and the moving average holds
    several pasts. The student learns the consensus of both teachers on a recoloured, mirrored and zoomed view. The
    dynamic teacher is what is validated and handed over.

    Deviations: boxes are given, so that the consensus, weighted box fusion in the paper, is the mean of both
    teachers' probabilities. Where the paper takes labels above one score, each class has two thresholds by rank, at
    the rate that the source model expects of it on the target.

    Liu et al., "Periodically exchange teacher-student for source-free object detection", ICCV 2023.
    """

    Arguments: ClassVar[type] = PETSArguments
    arguments: PETSArguments
    needs_encoder = "zooms and recolours the clips of each step"
    dynamic: Teacher | None
    static: ActionDetector | None

    def __init__(self, arguments: PETSArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.every < 1:
            raise InputError(
                f"adaptation.args.every={arguments.every} is invalid: expected a whole number of at least 1."
            )
        self.dynamic, self.static = None, None
        self.thresholds = ClassThresholds(task.num_classes, arguments.positive, arguments.negative, arguments.memory)
        self.strong_view = AugmentConfig(flip=0.5, scale=[0.8, 1.2], colour=arguments.strong_colour)

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Make the source model both teachers, and its word on the target the class rates."""
        self.dynamic = Teacher(detector, self.arguments.decay)
        self.static = copy.deepcopy(detector).requires_grad_(False).eval()
        expected = predict_all(detector, target).logits.sigmoid()
        self.find_support(expected)
        self.thresholds.people.fill_(len(expected))
        self.thresholds.positives.copy_(expected.sum(dim=0))

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """At the end of a period, exchange the student and the static teacher."""
        if epoch and epoch % self.arguments.every == 0:
            exchange(detector, self._teachers()[1])

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """The loss of the student's view with the teachers' labels."""
        seen = self.consensus(target)
        pseudo = self.thresholds.label(seen, seen.new_zeros(0, self.task.num_classes), self.support)
        strong = augment_batch(target, self.strong_view)
        visible = PseudoLabels(pseudo.labels, pseudo.trusted * in_view(target.boxes, strong.boxes, 0.25)[:, None])
        return {"pseudo_label": self.arguments.weight * trusted_bce(detect(detector, strong).logits, visible)}

    @torch.no_grad()
    def consensus(self, target: ClipBatch) -> Tensor:
        """``(K, C)`` mean probability of both teachers."""
        dynamic, static = self._teachers()
        static.eval()
        answers: list[Tensor] = [dynamic(target), detect(static, target).logits.float()]
        return (answers[0].sigmoid() + answers[1].sigmoid()) / 2

    def after_step(self, detector: ActionDetector) -> None:
        """Let the dynamic teacher follow."""
        self._teachers()[0].follow(detector)

    def after_training(self, detector: ActionDetector) -> None:
        """Give the detector the dynamic teacher's weights; no teacher is held afterwards."""
        detector.load_state_dict(self._teachers()[0].network.state_dict())
        self.dynamic, self.static = None, None

    def network(self, detector: ActionDetector) -> ActionDetector:
        """The dynamic teacher as long as there is one."""
        return detector if self.dynamic is None else self.dynamic.network

    def _teachers(self) -> tuple[Teacher, ActionDetector]:
        if self.dynamic is None or self.static is None:
            raise RuntimeError("PETS has no teachers yet: call before_training first")
        return self.dynamic, self.static


@torch.no_grad()
def exchange(first: ActionDetector, second: ActionDetector) -> None:
    """Swap the weights and statistics of two detectors of one kind, in place."""
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    first.load_state_dict(second.state_dict())
    second.load_state_dict(kept)
