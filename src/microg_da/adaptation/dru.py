"""Dynamic retraining and updating of student and teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from microg_da.adaptation.base import Losses, Task, detect, forward_both
from microg_da.adaptation.mic import mask_patches, weighted_by_certainty
from microg_da.adaptation.prototypes import sum_over_processes
from microg_da.adaptation.pseudo_labels import PseudoLabels, trusted_bce
from microg_da.adaptation.source_free_teacher import SourceFreeTeacher, SourceFreeTeacherArguments
from microg_da.errors import InputError, check_count
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

ENOUGH = 0.5
"""The teacher follows if the student became surer of this share of the batches since its last move."""


@dataclass
class DRUArguments(SourceFreeTeacherArguments):
    """Settings of :class:`DRU`, besides those of all source-free methods with a teacher.

    Attributes:
        patience: steps in which the student must become surer; then a part of it is put back.
        stages: how many stages of the backbone, counted from the last, are put back together with the head.
        slices: temporal slices of a clip whose logits are compared.
        past_weight: of the loss with labels of the past student, relative to that with labels of the teacher.
        masked_weight: of the losses on masked clips, relative to those on clips that are not.
        masked: share of the patches that are hidden.
        patches: how many patches the shorter side of a clip is cut into.
    """

    patience: int = 5
    stages: int = 1
    slices: int = 2
    past_weight: float = 1.0
    masked_weight: float = 1.0
    masked: float = 0.5
    patches: int = 8


class Watched(NamedTuple):
    """A batch since the last move of the teacher.

    Attributes:
        clips: as the teacher sees them.
        disagreement: of the student, before the step on the batch; None without people.
    """

    clips: ClipBatch
    disagreement: float | None


class DRU(SourceFreeTeacher):
    """Without source clips: the teacher follows a student that becomes surer, and part of one that does not goes back.

    The student learns the teacher's labels on a recoloured, mirrored and zoomed view and on the same with patches
    hidden. To these losses are added those with the labels of the past student, as it was when the teacher moved last,
    so that a wrong label of the teacher is not the only one (*historical student loss*). After each step the student is
    asked about all batches since the teacher's last move. If it disagrees with itself less than before on half of
    them, the teacher moves (*dynamic updating*). If that has not happened for ``patience`` steps, the head and the
    last stages of the student get the weights of the past student (*dynamic retraining*).

    Deviations:

    - Boxes are given: all losses are those of classes. Where the paper takes labels above one score, each class has
      two thresholds by rank, at the rate that the source model expects of it on the target; losses are cross-entropies,
      where the program has focal losses. An entry of the past student's labels weighs ``max(p, 1 - p)``, where the
      program weighs a label by its score.
    - The paper measures how unsure a student is by the variance of its logits over decoder layers, which this detector
      lacks. Here it is their variance over temporal slices of a clip, mean over people and classes in the support.
    - The head and the last stage stand for the decoder, which the paper puts back; the optimiser keeps its state.
    - The watched batches are forgotten at the end of an epoch, and the moving average is corrected for its beginning.

    Khanh et al., "Dynamic retraining-updating mean teacher for source-free object detection", ECCV 2024.
    """

    Arguments: ClassVar[type] = DRUArguments
    arguments: DRUArguments
    needs_encoder = "masks, zooms and recolours the clips of each step"
    past: ActionDetector | None

    def __init__(self, arguments: DRUArguments, task: Task) -> None:
        super().__init__(arguments, task)
        for name, least in (("patience", 1), ("slices", 2), ("patches", 1)):
            check_count(f"adaptation.args.{name}", getattr(arguments, name), least)
        if not 0 < arguments.masked < 1:
            raise InputError(f"adaptation.args.masked={arguments.masked} is invalid: expected a share in (0, 1).")
        self.past = None
        self.past_thresholds = self.new_thresholds()
        self._watched: list[Watched] = []

    def check_detector(self, detector: ActionDetector) -> None:
        """The backbone has as many stages as are to be put back."""
        stages = detector.backbone.stages
        if not 0 <= self.arguments.stages <= len(stages):
            raise InputError(
                f"adaptation.args.stages={self.arguments.stages} is invalid: this model has {len(stages)} "
                f"({', '.join(stages)})."
            )

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Make the source model the teacher and the past student, and its word on the target the class rates."""
        super().before_training(detector, source, target)
        self.past = copy.deepcopy(detector).requires_grad_(False).eval()

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Forget the watched batches, so that a resumed stage continues as one that was not interrupted."""
        self._watched = []

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """The losses with the labels of the teacher and with those of the past student."""
        self._watch(detector, target)
        labels = self.label(self.current_teacher(target).sigmoid())
        past_labels = self.past_labels(target)
        strong, visible = self.strong(target)
        masked = mask_patches(strong, self.arguments.masked, self.arguments.patches)
        both = forward_both(detector, strong, masked)
        weight = self.arguments.weight
        return {
            "pseudo_label": weight * self._loss(both, labels, visible),
            "historical": weight * self.arguments.past_weight * self._loss(both, past_labels, visible),
        }

    def _loss(self, both: tuple[Prediction, Prediction], pseudo: PseudoLabels, visible: Tensor) -> Tensor:
        seen = PseudoLabels(pseudo.labels, pseudo.trusted * visible)
        plain, masked = (trusted_bce(prediction.logits, seen) for prediction in both)
        return plain + self.arguments.masked_weight * masked

    @torch.no_grad()
    def past_labels(self, target: ClipBatch) -> PseudoLabels:
        """Labels of the past student, weighted by how sure it is."""
        probabilities = detect(self._past().eval(), target).logits.float().sigmoid()
        return weighted_by_certainty(self.label(probabilities, self.past_thresholds), probabilities)

    def _watch(self, detector: ActionDetector, target: ClipBatch) -> None:
        if not self._watched:
            self._past().load_state_dict(detector.state_dict())
        self._watched.append(Watched(target, self._disagreement(detector, target)))

    def _disagreement(self, detector: ActionDetector, target: ClipBatch) -> float | None:
        if not target.num_boxes:
            return None
        with evaluating(detector), torch.autocast(target.frames.device.type, enabled=False):
            logits = detector.local_predictions(target.frames, target.boxes, target.clip_index, self.arguments.slices)[
                0
            ].logits
        return float(slice_variance(self.supported(logits)))

    def after_step(self, detector: ActionDetector) -> None:
        """Let the teacher follow, or put part of the student back, or wait."""
        if len(self._watched) >= self.arguments.patience:
            put_back(detector, self._past(), detector.backbone.stages, self.arguments.stages)
            self._watched = []
        elif self.is_surer(detector):
            self.current_teacher.follow(detector)
            self._watched = []

    def is_surer(self, detector: ActionDetector) -> bool:
        """Whether the student, in all processes, disagrees with itself less on enough of the watched batches."""
        now = [(one.disagreement, self._disagreement(detector, one.clips)) for one in self._watched]
        known = [after < before for before, after in now if before is not None and after is not None]
        counts = torch.tensor([float(sum(known)), float(len(known))], device=detector.head.projection.weight.device)
        surer, asked = sum_over_processes(counts).tolist()
        return bool(asked) and surer >= ENOUGH * asked

    def after_training(self, detector: ActionDetector) -> None:
        """Give the detector the teacher's weights; no other network is held afterwards."""
        super().after_training(detector)
        self.past, self._watched = None, []

    def _past(self) -> ActionDetector:
        if self.past is None:
            raise RuntimeError("DRU has no past student yet: call before_training first")
        return self.past


def slice_variance(logits: Tensor) -> Tensor:
    """Variance of ``(K, S, C)`` logits over ``S ≥ 2`` slices, mean over ``K ≥ 1`` people and classes."""
    return logits.float().var(dim=1).mean()


@torch.no_grad()
def put_back(student: nn.Module, past: nn.Module, stages: tuple[str, ...], count: int) -> None:
    """Give the head and the last ``count`` of the backbone's ``stages`` the weights and statistics of another one."""
    parts = ("head.", *(f"backbone.{stage}." for stage in stages[len(stages) - count :]))
    before = past.state_dict()
    for name, value in student.state_dict().items():
        if name.startswith(parts):
            value.copy_(before[name])


@contextmanager
def evaluating(detector: nn.Module) -> Iterator[None]:
    """The detector in evaluation mode and without gradients inside the block, then as it was."""
    was_training = detector.training
    detector.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        detector.train(was_training)
