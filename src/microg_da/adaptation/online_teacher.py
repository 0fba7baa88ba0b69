"""Base of the test-time methods that predict with a moving average of the detector."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import Task
from microg_da.adaptation.online import Online, OnlineArguments
from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector


@dataclass
class OnlineTeacherArguments(OnlineArguments):
    """Settings of online methods with a teacher, in addition to those of all online methods.

    Attributes:
        decay: weight of the previous teacher in an update.
        rotation: maximum roll of a random view, in degrees.
    """

    decay: float = 0.999
    rotation: float = 15.0


class OnlineTeacher(Online):
    """Base class of online methods with a teacher. The teacher starts as a copy of the tested detector.

    :meth:`follow` updates the teacher.

    Attributes:
        view: a random view with moderate changes: a roll, mirroring, 10 % zoom, 40 % colour.
    """

    Arguments: ClassVar[type] = OnlineTeacherArguments
    arguments: OnlineTeacherArguments

    def __init__(self, arguments: OnlineTeacherArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.decay <= 1:
            raise InputError(
                f"adaptation.test_time_args.decay={arguments.decay} is invalid: expected a number in [0, 1]."
            )
        self.view = AugmentConfig(flip=0.5, scale=[0.9, 1.1], colour=0.4, rotation=arguments.rotation)

    def start_test(self, detector: ActionDetector) -> None:
        """Create the teacher, and store the state of the tested detector."""
        super().start_test(detector)
        self._teacher = copy.deepcopy(detector).requires_grad_(False)

    def forget(self) -> None:
        """Reset the teacher."""
        if hasattr(self, "_teacher"):
            self._teacher.load_state_dict(self._before.state)

    def end_test(self, detector: ActionDetector) -> None:
        """Delete the teacher."""
        super().end_test(detector)
        del self._teacher

    @torch.no_grad()
    def follow(self, detector: ActionDetector) -> None:
        """Move the teacher's weights towards the detector's. The statistics of the teacher do not change."""
        for mine, theirs in zip(self._teacher.parameters(), detector.parameters(), strict=True):
            mine.lerp_(theirs, 1 - self.arguments.decay)


def soft_cross_entropy(logits: Tensor, answer: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the Bernoulli cross-entropy (nats) with a teacher's probabilities: sum over classes, mean over people.

    Args:
        logits: ``(K, C)`` of the student, ``K ≥ 1``.
        answer: ``(K, C)`` logits of the teacher.
        weights: ``(K,)`` weights of the people; None for 1.
    """
    labels = answer.detach().float().sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").sum(dim=1)
    return (entropy if weights is None else weights * entropy).mean()
