"""Joint training, an oracle."""

from __future__ import annotations

from typing import ClassVar

from microg_da.adaptation.base import DomainAdaptation, Losses, forward_both, labelled
from microg_da.adaptation.losses import multilabel_bce
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


class Joint(DomainAdaptation):
    """Trains on labelled source and labelled target clips in one batch."""

    uses_target_labels: ClassVar[bool] = True

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised losses of both domains."""
        of_source, of_target = forward_both(detector, source, target)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "target_supervised": multilabel_bce(of_target.logits, labelled(target).labels),
        }
