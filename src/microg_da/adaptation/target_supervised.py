"""The supervised upper bound, an oracle."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import Adaptation
from microg_da.adaptation.losses import multilabel_bce
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


class TargetSupervised(Adaptation):
    """The source model fine-tuned on labelled target clips: the upper bound that a recovered gap is measured by."""

    uses_source: ClassVar[bool] = False
    uses_target_labels: ClassVar[bool] = True

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch | None, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """The supervised loss on target people."""
        assert target is not None
        logits = detector(target.frames, target.boxes, target.clip_index).logits
        if target.labels is None:
            raise RuntimeError("target_supervised trains on target labels, and this batch has none")
        return {"supervised": multilabel_bce(logits, target.labels)}
