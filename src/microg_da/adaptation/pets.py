"""Periodically exchanged teacher and student."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Losses, Task, detect
from microg_da.adaptation.pseudo_labels import PseudoLabels, trusted_bce
from microg_da.adaptation.source_free_teacher import SourceFreeTeacher, SourceFreeTeacherArguments
from microg_da.errors import check_count
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


@dataclass
class PETSArguments(SourceFreeTeacherArguments):
    """Settings of :class:`PETS`, besides those of all source-free methods with a teacher.

    Attributes:
        exchange_epochs: epochs between exchanges of the student and the static teacher.
    """

    exchange_epochs: int = 1


class PETS(SourceFreeTeacher):
    """Source-free: two teachers label target people, and the static teacher is exchanged with the student.

    The dynamic teacher is the moving average of the student. The static teacher is constant for a period and then
    exchanges its weights with the student. This discards a diverged student, and the moving average combines
    several trajectories. The student is trained on the consensus of both teachers with a recoloured, mirrored and
    zoomed view. The dynamic teacher is validated and kept.

    Deviations: boxes are given, so that the consensus is the mean of both teachers' probabilities, and not weighted box
    fusion. The paper takes labels above a score. Here each class has two thresholds by rank, at the rate that the
    source model predicts for the class on the target.

    Liu et al., "Periodically exchange teacher-student for source-free object detection", ICCV 2023.
    """

    Arguments: ClassVar[type] = PETSArguments
    arguments: PETSArguments
    needs_encoder = "zooms and recolours the clips of each step"
    static: ActionDetector | None

    def __init__(self, arguments: PETSArguments, task: Task) -> None:
        super().__init__(arguments, task)
        check_count("adaptation.args.exchange_epochs", arguments.exchange_epochs)
        self.static = None

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Use the source model as both teachers, and its predictions on the target as class rates."""
        super().before_training(detector, source, target)
        self.static = copy.deepcopy(detector).requires_grad_(False).eval()

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Exchange the student and the static teacher at the end of a period."""
        if epoch and epoch % self.arguments.exchange_epochs == 0:
            exchange(detector, self._static())

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """Return the loss of the student's view with the teachers' labels."""
        pseudo = self.label(self.consensus(target))
        strong, visible = self.strong(target)
        loss = trusted_bce(detect(detector, strong).logits, PseudoLabels(pseudo.labels, pseudo.trusted * visible))
        return {"pseudo_label": self.arguments.weight * loss}

    @torch.no_grad()
    def consensus(self, target: ClipBatch) -> Tensor:
        """Return the mean probability ``(K, C)`` of both teachers."""
        static = self._static().eval()
        answers: list[Tensor] = [self.current_teacher(target), detect(static, target).logits.float()]
        return (answers[0].sigmoid() + answers[1].sigmoid()) / 2

    def after_step(self, detector: ActionDetector) -> None:
        """Update the dynamic teacher."""
        self.current_teacher.follow(detector)

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the weights of the dynamic teacher to the detector, and delete the teachers."""
        super().after_training(detector)
        self.static = None

    def _static(self) -> ActionDetector:
        if self.static is None:
            raise RuntimeError("PETS has no teachers yet: call before_training first")
        return self.static


@torch.no_grad()
def exchange(first: ActionDetector, second: ActionDetector) -> None:
    """Swap the weights and statistics of two detectors of the same architecture, in place."""
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    first.load_state_dict(second.state_dict())
    second.load_state_dict(kept)
