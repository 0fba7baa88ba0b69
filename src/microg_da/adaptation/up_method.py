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
"""A dry run trains what finds up for one step in so many."""


class Found(NamedTuple):
    """Up, and what the detector says of people who are upright.

    Attributes:
        degrees: ``(K,)`` each person's up, clockwise from the top of the picture.
        log_density: ``(K, R)`` log-probabilities of R angles, evenly spaced from 0, before the decision.
        prediction: of the K people.
        passes: clips that went through the detector, all views counted.
    """

    degrees: Tensor
    log_density: Tensor
    prediction: Prediction
    passes: int


class UpMethod(TestTimeMethod):
    """Finds each person's up, and predicts people in clips that are turned upright.

    Runs with such a method record the errors of up where the truth is known, and their reports draw it.
    """

    def __init__(self, arguments: object, task: Task) -> None:
        super().__init__(arguments, task)
        self._listener: Callable[[Found], None] | None = None

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """Each person's up, and the prediction for people who are upright."""
        raise NotImplementedError

    @contextmanager
    def telling(self, listener: Callable[[Found], None]) -> Iterator[None]:
        """Within the block, hand what is found for each batch to a function, before it is predicted."""
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
    """Degrees ``(B,)`` that turn each clip upright: the opposite of the up of its first person, 0 without people.

    Args:
        batch: the clips.
        degrees: ``(K,)`` each person's up.
    """
    turns = torch.zeros(len(batch))
    clips, up = batch.clip_index.cpu(), degrees.float().cpu()
    first = clips.diff(prepend=torch.tensor([-1])) > 0
    turns[clips[first]] = -up[first]
    return turns
