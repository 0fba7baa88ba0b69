"""Base class of test-time methods that find each person's up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from microg_da.adaptation.base import Task, TestTimeMethod
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

REHEARSED = 30
"""The factor by which a dry run reduces the training steps of an up estimator."""


class Found(NamedTuple):
    """The estimated up, and the predictions for people turned upright.

    Attributes:
        degrees: ``(K,)`` up of each person, clockwise from the top of the image.
        log_density: ``(K, R)`` log-probabilities of R angles, evenly spaced from 0, before the decision.
        prediction: prediction for the K people.
        passes: number of clips that the detector processed, counting all views.
    """

    degrees: Tensor
    log_density: Tensor
    prediction: Prediction
    passes: int


class UpMethod(TestTimeMethod):
    """Base class of methods that find each person's up and predict people in clips turned upright.

    Runs with such a method record the errors of up if the true up is known, and show them in reports.
    """

    def __init__(self, arguments: object, task: Task) -> None:
        super().__init__(arguments, task)
        self._listener: Callable[[Found], None] | None = None

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """Return each person's up, and the predictions for people turned upright."""
        raise NotImplementedError

    @contextmanager
    def telling(self, listener: Callable[[Found], None]) -> Iterator[None]:
        """Within the block, call a function with the up found for each batch."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Predict people in clips that are turned upright."""
        found = self.find(detector, batch)
        if self._listener is not None:
            self._listener(found)
        return found.prediction


def upright_turns(batch: ClipBatch, degrees: Tensor) -> Tensor:
    """Return the degrees ``(B,)`` that turn each clip upright: minus the up of its first person, 0 without people.

    Args:
        batch: the clips.
        degrees: ``(K,)`` up of each person.
    """
    turns = torch.zeros(len(batch))
    clips, up = batch.clip_index.cpu(), degrees.float().cpu()
    first = clips.diff(prepend=torch.tensor([-1])) > 0
    turns[clips[first]] = -up[first]
    return turns
