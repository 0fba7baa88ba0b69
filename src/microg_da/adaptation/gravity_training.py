"""Any training method in the gravity frame: it learns from target clips that are turned upright."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Knowledge, Losses, Task, TrainingMethod, method_arguments
from microg_da.adaptation.gravity_frame import GravityFrame, GravityFrameArguments
from microg_da.adaptation.round import Round, RoundState
from microg_da.adaptation.up_method import upright_turns
from microg_da.config import TrainingConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class GravityTrainingArguments(GravityFrameArguments):
    """Settings of :class:`GravityTraining`, besides those of the estimate of up.

    Attributes:
        method: the name of a training method, e.g. ``cdan``.
        method_args: its arguments.
        every: epochs between estimates of the target's up, the first before the first epoch.
    """

    method: str = "cdan"
    method_args: dict[str, Any] = field(default_factory=dict)
    every: int = 2


class GravityTraining(TrainingMethod):
    """Trains by another method, on target clips that are turned until people are upright.

    An estimator of up is trained first. Every ``every`` epochs it finds the up of each target clip, with the network
    that is handed over so far. The other method sees target clips so turned, in its steps and in what it does once or
    every epoch. The detector is tested through :class:`~microg_da.adaptation.gravity_frame.GravityFrame`, with the same
    estimator.

    It tells what is left of a shift once roll is taken out of it, and whether a method can close that: the control is
    ``method: source_finetune``, which takes the same steps on source clips alone.

    Example:
        >>> from microg_da import create_adaptation
        >>> arguments = {"method": "coral", "method_args": {"weight": 0.5}}
        >>> method = create_adaptation("gravity_training", arguments, feature_dim=128, num_classes=50)
        >>> type(method.inner).__name__, method.inner.arguments.weight
        ('CORAL', 0.5)
    """

    Arguments: ClassVar[type] = GravityTrainingArguments
    arguments: GravityTrainingArguments
    has_companion: ClassVar[bool] = True
    needs_encoder = "estimates up from pixels and rolls clips by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: GravityTrainingArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.every < 1:
            raise InputError(f"every={arguments.every}: expected a whole number of at least 1.")
        self.inner = _inner_method(arguments, task)
        self.frame = GravityFrame(arguments, task)
        self.ups = _nobody()

    @classmethod
    def knowledge_with(cls, arguments: Mapping[str, object]) -> frozenset[Knowledge]:
        """The rolls, and what the inner method knows."""
        inner = str(arguments.get("method", GravityTrainingArguments.method))
        known: frozenset[Knowledge] = ADAPTATIONS.load(inner, "adaptation.args.method").knowledge
        return cls.knowledge | known

    @property
    def companion(self) -> GravityFrame:
        """The detector is tested in the frame that it was trained in, with the same estimator of up."""
        return self.frame

    def built_for(self, detector: ActionDetector) -> None:
        """Add the layers of both parts."""
        self.frame.built_for(detector)
        self.inner.built_for(detector)

    def check_detector(self, detector: ActionDetector) -> None:
        """Both parts can act on the detector."""
        self.frame.check_detector(detector)
        self.inner.check_detector(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """As :meth:`GravityFrame.rehearsing`."""
        with self.frame.rehearsing() as factor, self.inner.rehearsing():
            yield factor

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """That of the inner method."""
        return self.inner.stage_training(training)

    @property
    def own_lr_scale(self) -> float:
        """That of the inner method."""
        return self.inner.own_lr_scale

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Train the estimator of up; then let the inner method look at source clips and turned target clips."""
        self.frame.prepare(detector, source, target)
        turns = partial(self.frame.turns, detector)
        self.inner.before_training(detector, source, _Turned(target, turns))

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Find the target's up, if it is time; then let the inner method look at turned target clips."""
        network = self.inner.network(detector)
        if epoch % self.arguments.every == 0:
            look = partial(self._look, network)
            self.ups = Round.collect(target, look, degrees=torch.zeros(0))
        self.inner.before_epoch(detector, _Turned(target, self.turns), epoch)

    def _look(self, network: ActionDetector, batch: ClipBatch) -> dict[str, Tensor]:
        return {"degrees": self.frame.find(network, batch).degrees.cpu()}

    def turns(self, target: ClipBatch) -> Tensor:
        """Degrees ``(B,)`` that turn each clip upright: the opposite of the up of its first person."""
        return upright_turns(target, self.ups.of("degrees", target.people))

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """Those of the inner method."""
        return self.inner.step_losses(detector, source, target, progress)

    def after_step(self, detector: ActionDetector) -> None:
        """As the inner method does."""
        self.inner.after_step(detector)

    def after_training(self, detector: ActionDetector) -> None:
        """As the inner method does; the ups are forgotten."""
        self.inner.after_training(detector)
        self.ups = _nobody()

    def network(self, detector: ActionDetector) -> ActionDetector:
        """That of the inner method."""
        return self.inner.network(detector)

    def get_extra_state(self) -> RoundState:
        """The ups, so that a resumed stage continues with the same angles."""
        return self.ups.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Take up the ups."""
        self.ups = Round.from_state(state)


class _Turned:
    """Target clips that are turned as they are asked for; can be iterated several times.

    Args:
        target: the clips.
        turns: the degrees ``(B,)`` to turn the clips of a batch by.
    """

    def __init__(self, target: Iterable[ClipBatch], turns: Callable[[ClipBatch], Tensor]) -> None:
        self.target, self.turns = target, turns

    def __iter__(self) -> Iterator[ClipBatch]:
        for batch in self.target:
            yield roll_batch(batch, self.turns(batch))


def _inner_method(arguments: GravityTrainingArguments, task: Task) -> TrainingMethod:
    """The method that trains.

    Raises:
        InputError: if it does not train, reads target labels, or is tested through a method of its own.
    """
    name = arguments.method
    kind = ADAPTATIONS.load(name, "adaptation.args.method")
    if not (issubclass(kind, TrainingMethod) and kind.has_epochs) or kind.uses_target_labels or kind.has_companion:
        raise InputError(
            f"adaptation.args.method={name}: gravity_training needs a method that trains in steps, reads no target "
            "labels and has no test-time method of its own, e.g. cdan, coral or mean_teacher."
        )
    method: TrainingMethod = kind(
        method_arguments(name, arguments.method_args, key="adaptation.args.method_args"), task
    )
    return method


def _nobody() -> Round:
    return Round([], degrees=torch.zeros(0))
