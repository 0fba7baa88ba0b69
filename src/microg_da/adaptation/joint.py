"""Joint training, an oracle."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import Adaptation
from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.batches import concatenate_batches
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


class Joint(Adaptation):
    """Labelled source and labelled target in one batch: what labels of both domains give together."""

    uses_target_labels: ClassVar[bool] = True

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch | None, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """The supervised loss of all people of both domains."""
        assert source is not None
        assert source.labels is not None
        if target is None or target.labels is None:
            return super().training_losses(detector, source, None, progress)
        both = concatenate_batches(source, target)
        logits = detector(both.frames, both.boxes, both.clip_index).logits
        count = source.num_boxes
        return {
            "supervised": multilabel_bce(logits[:count], source.labels),
            "target_supervised": multilabel_bce(logits[count:], target.labels),
        }
