"""A detector with an optional test-time method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microg_da.adaptation.base import TestTimeMethod, detect
from microg_da.models.detector import ActionDetector
from microg_da.models.folding import fold_batch_norm
from microg_da.types import ClipBatch, Prediction


@dataclass(frozen=True)
class Predictor:
    """Predicts the people of batches.

    Example::

        with predictor.testing():
            prediction = predictor(batch)

    Attributes:
        detector: a trained network.
        method: the test-time method; None for the network without one.
    """

    detector: ActionDetector
    method: TestTimeMethod | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the predictions are those of the detector without a method."""
        return self.method is None

    def folded(self, num_frames: int, image_size: int) -> Predictor:
        """Return a copy with batch normalisation folded into convolutions, unless there is a test-time method."""
        if not self.is_plain:
            return self
        return replace(self, detector=fold_batch_norm(self.detector, num_frames, image_size))

    def to(self, device: torch.device | str) -> Predictor:
        """Move the modules to a device in place, and return the predictor."""
        self.detector.to(device)
        if self.method is not None:
            self.method.to(device)
        return self

    def shift_decisions(self, shift: Tensor) -> None:
        """Add ``(C,)`` to the logits of all later predictions: to the classifier's biases, or after the method."""
        changed = self.detector.head.projection.bias if self.method is None else self.method.decision_shift
        with torch.no_grad():
            changed.add_(shift.to(changed))

    @contextmanager
    def testing(self) -> Iterator[Predictor]:
        """Context of a pass over clips: the method prepares the detector and restores it afterwards."""
        if self.method is None:
            yield self
            return
        self.method.start_test(self.detector)
        try:
            yield self
        finally:
            self.method.end_test(self.detector)

    def __call__(self, batch: ClipBatch) -> Prediction:
        """Predict the ``K`` people of a batch; gradients are available if they are enabled."""
        if self.method is None:
            return detect(self.detector, batch)
        prediction = self.method.predict(self.detector, batch)
        return prediction._replace(logits=prediction.logits + self.method.decision_shift)
