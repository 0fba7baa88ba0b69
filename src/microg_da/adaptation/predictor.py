"""A detector together with the test-time method through which it predicts."""

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
        method: how it is used at test time; None for the network alone.
    """

    detector: ActionDetector
    method: TestTimeMethod | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it predicts what the detector alone predicts."""
        return self.method is None

    def folded(self, num_frames: int, image_size: int) -> Predictor:
        """The same with batch normalisation folded into convolutions, where no method acts at test time."""
        if not self.is_plain:
            return self
        return replace(self, detector=fold_batch_norm(self.detector, num_frames, image_size))

    def to(self, device: torch.device | str) -> Predictor:
        """The same on a device; modules are moved in place."""
        self.detector.to(device)
        if self.method is not None:
            self.method.to(device)
        return self

    def shift_decisions(self, shift: Tensor) -> None:
        """Add ``(C,)`` to the logits of all people from now on: to the classifier's biases, or after the method."""
        changed = self.detector.head.projection.bias if self.method is None else self.method.decision_shift
        with torch.no_grad():
            changed.add_(shift.to(changed))

    @contextmanager
    def testing(self) -> Iterator[Predictor]:
        """Surrounds a pass over clips: the method prepares the detector and restores it afterwards."""
        if self.method is None:
            yield self
            return
        self.method.start_test(self.detector)
        try:
            yield self
        finally:
            self.method.end_test(self.detector)

    def __call__(self, batch: ClipBatch) -> Prediction:
        """Predict a batch's ``K`` people; gradients are available if they are enabled."""
        if self.method is None:
            return detect(self.detector, batch)
        prediction = self.method.predict(self.detector, batch)
        return prediction._replace(logits=prediction.logits + self.method.decision_shift)
