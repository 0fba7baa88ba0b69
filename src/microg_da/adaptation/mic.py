"""Masked image consistency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import Knowledge, Losses, Task, forward_both
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabelArguments, PseudoLabels, trusted_bce
from microg_da.adaptation.teacher import TeacherMethod, ramp_up
from microg_da.errors import InputError, check_count
from microg_da.models.detector import ActionDetector
from microg_da.transforms.affine import GREY
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class MICArguments(PseudoLabelArguments):
    """Settings of :class:`MIC`, in addition to those of all methods with pseudo-labels.

    Attributes:
        masked: fraction of masked patches.
        patches: number of patches along the shorter side of a clip.
        teacher_rolls: number of evenly spaced camera rolls over which the teacher's probabilities are averaged.
    """

    masked: float = 0.5
    patches: int = 8
    teacher_rolls: int = 1


class MIC(TeacherMethod):
    """Trains a student on masked target clips with the labels of a moving-average teacher.

    The student must infer masked regions from context: the rest of the person, other people, the scene. A patch is
    masked in all frames of a clip, since neighbouring frames would reveal it. Boxes are given, so that the loss is only
    that of the classes, weighted by the confidence of the teacher.

    Deviations: the paper trusts a box by its largest softmax probability. Here each class of a person is trusted by the
    thresholds of the class (see :class:`~microg_da.adaptation.pseudo_labels.ClassThresholds`) and weighted by
    ``max(p, 1 - p)``. The loss is added to supervised training; the paper adds it to an adversarial method.

    Hoyer et al., "MIC: Masked image consistency for context-enhanced domain adaptation", CVPR 2023.
    """

    Arguments: ClassVar[type] = MICArguments
    arguments: MICArguments
    needs_encoder = "hides patches of the clips of each step"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"class_rates"})

    def __init__(self, arguments: MICArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 < arguments.masked < 1:
            raise InputError(f"adaptation.args.masked={arguments.masked} is invalid: expected a fraction in (0, 1).")
        check_count("adaptation.args.patches", arguments.patches)
        self.thresholds = ClassThresholds(task.num_classes, arguments.positive, arguments.negative, arguments.memory)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss, and the loss of masked target clips with the teacher's labels."""
        seen = self.current_teacher(target, self.arguments.teacher_rolls).sigmoid()
        pseudo = weighted_by_certainty(self.thresholds.label(seen, source.labels, self.support), seen)
        hidden = mask_patches(target, self.arguments.masked, self.arguments.patches)
        of_source, of_target = forward_both(detector, source, hidden)
        weight = self.arguments.weight * ramp_up(progress, self.arguments.ramp_up)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "masked": weight * trusted_bce(of_target.logits, pseudo),
        }


def weighted_by_certainty(pseudo: PseudoLabels, probabilities: Tensor) -> PseudoLabels:
    """Return pseudo-labels in which each trusted entry has the weight ``max(p, 1 - p)``."""
    return PseudoLabels(pseudo.labels, pseudo.trusted * torch.maximum(probabilities, 1 - probabilities))


def mask_patches(batch: ClipBatch, masked: float, patches: int) -> ClipBatch:
    """Mask random square patches of each clip, the same in all frames; boxes do not change.

    Args:
        batch: frames ``(B, 3, T, H, W)``; masked patches become 0 after normalisation.
        masked: probability that a patch is masked.
        patches: number of patches along the shorter side.
    """
    height, width = batch.frames.shape[-2:]
    side = max(1, min(height, width) // patches)
    grid = (torch.rand(len(batch), 1, -(-height // side), -(-width // side)) < masked).float()
    mask = F.interpolate(grid, scale_factor=float(side), mode="nearest")[:, :, None, :height, :width].bool()
    grey = 0.0 if batch.frames.is_floating_point() else round(GREY)
    return replace(batch, frames=batch.frames.masked_fill(mask.to(batch.frames.device), grey))
