"""Training on, without adaptation."""

from __future__ import annotations

from torch import Tensor

from microg_da.adaptation.base import Adaptation
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


class SourceFinetune(Adaptation):
    """The source model trained on source clips for the stage's budget, under the stage's augmentation.

    Methods are measured beside it: with ``adaptation.rotation`` it shows what rotation does by itself.
    """

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch | None, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """The supervised loss; target clips are not looked at."""
        return super().training_losses(detector, source, None, progress)
