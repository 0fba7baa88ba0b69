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
"""Share of the batches since the last update on which the student must be more consistent to update the teacher."""


@dataclass
class DRUArguments(SourceFreeTeacherArguments):
    """Settings of :class:`DRU`, in addition to those of all source-free methods with a teacher.

    Attributes:
        patience: number of steps without an update of the teacher after which a part of the student is reset.
        stages: number of stages of the backbone, counted from the last, that are reset together with the head.
        slices: number of temporal slices of a clip whose logits are compared.
        past_weight: weight of the loss with labels of the past student, relative to the loss with labels of the
            teacher.
        masked_weight: weight of the losses on masked clips, relative to the losses on clips without masks.
        masked: share of masked patches.
        patches: number of patches along the shorter side of a clip.
    """

    patience: int = 5
    stages: int = 1
    slices: int = 2
    past_weight: float = 1.0
    masked_weight: float = 1.0
    masked: float = 0.5
    patches: int = 8


class Watched(NamedTuple):
    """A batch since the last update of the teacher.

    Attributes:
        clips: the clips in the view of the teacher.
        disagreement: disagreement of the student before the step on the batch; None without people.
    """

    clips: ClipBatch
    disagreement: float | None


class DRU(SourceFreeTeacher):
    """Source-free: the teacher is updated only when the student becomes more consistent, else the student is reset.

    The student is trained with the teacher's labels on a recoloured, mirrored and zoomed view, with and without masked
    patches. The same losses with the labels of the past student, a copy from the last update of the teacher, reduce the
    effect of wrong labels of the teacher (*historical student loss*). After each step the student predicts all batches
    since the last update. If its disagreement between temporal slices is smaller than before on half of them, the
    teacher is updated (*dynamic updating*). After ``patience`` steps without an update, the head and the last stages
    of the student get the weights of the past student (*dynamic retraining*).

    Deviations:

    - Boxes are given, so all losses are classification losses. The paper accepts labels above one score. Here each
    class
      has two thresholds by rank, at the rate that the source model predicts for the class on the target. Losses are
      cross-entropies, in the authors' code focal losses. Entries of the past student's labels have the weight
      ``max(p, 1 - p)``, in the code the score.
    - The paper measures the uncertainty of a student by the variance of its logits over decoder layers, which this
      detector lacks. Here it is the variance over temporal slices of a clip, averaged over people and classes in the
      support.
    - The head and the last stage are reset instead of the decoder of the paper; the optimiser keeps its state.
    - The stored batches are cleared after each epoch, and the moving average is bias-corrected.

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
        """Check that the backbone has as many stages as are reset."""
        stages = detector.backbone.stages
        if not 0 <= self.arguments.stages <= len(stages):
            raise InputError(
                f"adaptation.args.stages={self.arguments.stages} is invalid: this model has {len(stages)} "
                f"({', '.join(stages)})."
            )

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Use the source model as teacher and past student, and its predictions on the target as class rates."""
        super().before_training(detector, source, target)
        self.past = copy.deepcopy(detector).requires_grad_(False).eval()

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Clear the stored batches, so that a resumed stage equals an uninterrupted stage."""
        self._watched = []

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """Return the losses with the labels of the teacher and of the past student."""
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
        """Return the labels of the past student, weighted by confidence."""
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
        """Update the teacher, or reset a part of the student, or do neither."""
        if len(self._watched) >= self.arguments.patience:
            put_back(detector, self._past(), detector.backbone.stages, self.arguments.stages)
            self._watched = []
        elif self.is_surer(detector):
            self.current_teacher.follow(detector)
            self._watched = []

    def is_surer(self, detector: ActionDetector) -> bool:
        """Return whether the student, over all processes, is more consistent on enough of the stored batches."""
        now = [(one.disagreement, self._disagreement(detector, one.clips)) for one in self._watched]
        known = [after < before for before, after in now if before is not None and after is not None]
        counts = torch.tensor([float(sum(known)), float(len(known))], device=detector.head.projection.weight.device)
        decreased, asked = sum_over_processes(counts).tolist()
        return bool(asked) and decreased >= ENOUGH * asked

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the teacher's weights to the detector, and delete the other networks."""
        super().after_training(detector)
        self.past, self._watched = None, []

    def _past(self) -> ActionDetector:
        if self.past is None:
            raise RuntimeError("DRU has no past student yet: call before_training first")
        return self.past


def slice_variance(logits: Tensor) -> Tensor:
    """Return the variance of ``(K, S, C)`` logits over ``S ≥ 2`` slices, averaged over ``K ≥ 1`` people and classes."""
    return logits.float().var(dim=1).mean()


@torch.no_grad()
def put_back(student: nn.Module, past: nn.Module, stages: tuple[str, ...], count: int) -> None:
    """Copy weights and statistics of the head and the last ``count`` backbone ``stages`` from another student."""
    parts = ("head.", *(f"backbone.{stage}." for stage in stages[len(stages) - count :]))
    before = past.state_dict()
    for name, value in student.state_dict().items():
        if name.startswith(parts):
            value.copy_(before[name])


@contextmanager
def evaluating(detector: nn.Module) -> Iterator[None]:
    """Set the detector to evaluation mode without gradients inside the block, and restore its modes afterwards."""
    was_training = detector.training
    detector.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        detector.train(was_training)
