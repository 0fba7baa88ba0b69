"""The teacher, a moving average of the detector in training, and the base class of methods with a teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from microg_da.adaptation.base import DomainAdaptation, Task
from microg_da.adaptation.roll_tta import predict_over_rolls
from microg_da.errors import InputError, check_count, unknown_name
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


class Teacher(nn.Module):
    """Exponential moving average of a detector's weights and batch-norm statistics, frozen and in evaluation mode.

    The average is bias-corrected: after n steps it is the weighted mean of the source model and the n later students,
    each with ``decay`` times the weight of its successor. The update factor of a step is therefore
    ``(1 - decay) / (1 - decay^(n + 1))``.

    Args:
        detector: the detector of which the teacher is initially a copy.
        decay: factor of the weight of a model with each step of its age; 1 for equal weights.

    Raises:
        InputError: if the decay is not in [0, 1].
    """

    updates: Tensor

    def __init__(self, detector: ActionDetector, decay: float) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise InputError(f"a teacher's decay={decay} is invalid: expected a number in [0, 1].")
        self.network = copy.deepcopy(detector).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        """Keep the teacher in evaluation mode, also if the method is set to training mode."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, detector: ActionDetector) -> None:
        """Update the average with the detector; counters are copied."""
        share = newest_share(self.decay, int(self.updates) + 1)
        for mine, theirs in zip(_state(self.network), _state(detector), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, share)
            else:
                mine.copy_(theirs)
        self.updates += 1

    @torch.no_grad()
    def forward(self, batch: ClipBatch, rolls: int = 1, temperature: float = 1.0) -> Tensor:
        """Return float32 logits ``(K, C)`` of the people in a batch, averaged over evenly spaced camera rolls.

        Rolls are weighted by confidence, as in :class:`~microg_da.adaptation.roll_tta.RollTTA`, whose temperature was
        chosen on source clips.

        Args:
            batch: the clips.
            rolls: number of rolls, including 0°.
            temperature: temperature of the weights of rolls, in nats.

        Raises:
            InputError: if ``rolls`` is less than 1.
        """
        check_count("a teacher with rolls", rolls)
        return predict_over_rolls(self.network, batch, rolls, temperature).logits


def newest_share(decay: float, steps: int) -> float:
    """Return the weight of the newest of ``steps + 1`` models, each of which has ``decay`` times the next weight."""
    return 1 / (steps + 1) if decay == 1 else (1 - decay) / (1 - decay ** (steps + 1))


class TeacherArguments(Protocol):
    """Arguments that all methods with a teacher share.

    Attributes:
        decay: decay of the moving average, see :class:`Teacher`.
        keep: the network whose weights are validated and kept: ``student`` or ``teacher``.
    """

    decay: float
    keep: str


NETWORKS = ("student", "teacher")


class TeacherHolder:
    """Part of training methods that have a teacher from ``before_training`` to ``after_training``."""

    teacher: Teacher | None

    @property
    def current_teacher(self) -> Teacher:
        """The teacher.

        Raises:
            RuntimeError: before ``before_training`` has created it.
        """
        if self.teacher is None:
            raise RuntimeError(f"{type(self).__name__} has no teacher yet: call before_training first")
        return self.teacher


class TeacherMethod(TeacherHolder, DomainAdaptation):
    """Base class of methods with a teacher. Their arguments are derived from :class:`TeacherArguments`."""

    arguments: TeacherArguments

    def __init__(self, arguments: TeacherArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.keep not in NETWORKS:
            raise unknown_name("network", arguments.keep, NETWORKS, where="adaptation.args.keep")
        self.teacher = None

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Use the source model as the first teacher."""
        self.teacher = Teacher(detector, self.arguments.decay)

    def after_step(self, detector: ActionDetector) -> None:
        """Update the teacher."""
        self.current_teacher.follow(detector)

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the teacher's weights to the detector if these are kept, and delete the teacher."""
        if self.arguments.keep == "teacher":
            detector.load_state_dict(self.current_teacher.network.state_dict())
        self.teacher = None

    def network(self, detector: ActionDetector) -> ActionDetector:
        """Return the network to keep: the detector, or the teacher while it exists."""
        if self.teacher is None or self.arguments.keep == "student":
            return detector
        return self.teacher.network


def ramp_up(progress: float, length: float) -> float:
    """Return the weight of a loss, which rises from nearly 0 to 1 over the first ``length`` of a stage.

    ``exp(-5 (1 - progress / length)²)``, after Laine & Aila, "Temporal ensembling for semi-supervised learning",
    ICLR 2017.
    """
    return math.exp(-5 * (1 - progress / length) ** 2) if progress < length else 1.0


def _state(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
