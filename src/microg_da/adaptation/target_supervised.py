"""The supervised upper bound, an oracle."""

from __future__ import annotations

from typing import ClassVar

from microg_da.adaptation.base import Losses, TrainingMethod
from microg_da.adaptation.forward import labelled, required, supervised_losses
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


class TargetSupervised(TrainingMethod):
    """The source model fine-tuned on labelled target clips: the upper bound in the gap recovered."""

    uses_source: ClassVar[bool] = False
    uses_target_labels: ClassVar[bool] = True

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """Return the supervised loss on target people."""
        return supervised_losses(detector, labelled(required(target, "target")))
