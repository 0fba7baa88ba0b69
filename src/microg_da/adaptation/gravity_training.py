"""Any training method in the gravity frame: it is trained on target clips turned upright."""

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
from microg_da.adaptation.person_crops import training_view, turned_view
from microg_da.adaptation.round import Round, RoundState
from microg_da.adaptation.up_method import upright_turns
from microg_da.config import TrainingConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class GravityTrainingArguments(GravityFrameArguments):
    """Settings of :class:`GravityTraining`, in addition to those of the estimation of up.

    Attributes:
        method: the name of a training method, e.g. ``cdan``.
        method_args: its arguments.
        round_epochs: epochs between estimations of up in the target; the first is before the first epoch.
    """

    method: str = "cdan"
    method_args: dict[str, Any] = field(default_factory=dict)
    round_epochs: int = 2


class GravityTraining(TrainingMethod):
    """Trains with another method on target clips turned until people are upright.

    An estimator of up is trained first. Every ``round_epochs`` epochs the estimator and the current network find up in
    each target clip. The other method receives target clips turned upright, in its steps and in its hooks before
    training and before epochs. The detector is tested with :class:`~microg_da.adaptation.gravity_frame.GravityFrame`
    and the same estimator.

    The result shows how much of the domain gap remains without roll, and whether a method closes it. The control is
    ``method: source_finetune``, which takes the same steps on source clips only.

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
        if arguments.round_epochs < 1:
            raise InputError(f"round_epochs={arguments.round_epochs}: expected a whole number of at least 1.")
        self.inner = _inner_method(arguments, task)
        self.frame = GravityFrame(arguments, task)
        self.ups = _empty_round()

    @classmethod
    def knowledge_with(cls, arguments: Mapping[str, object]) -> frozenset[Knowledge]:
        """Return the knowledge of rolls and that of the inner method."""
        inner = str(arguments.get("method", GravityTrainingArguments.method))
        known: frozenset[Knowledge] = ADAPTATIONS.load(inner, "adaptation.args.method").knowledge
        return cls.knowledge | known

    @property
    def companion(self) -> GravityFrame:
        """The detector is tested in the frame that it was trained in, with the same estimator of up."""
        return self.frame

    def built_for(self, detector: ActionDetector) -> None:
        """Add the layers of the estimator and of the inner method."""
        self.frame.built_for(detector)
        self.inner.built_for(detector)

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the estimator and the inner method support the detector."""
        self.frame.check_detector(detector)
        self.inner.check_detector(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """As :meth:`GravityFrame.rehearsing`."""
        with self.frame.rehearsing() as factor, self.inner.rehearsing():
            yield factor

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Return the value of the inner method."""
        return self.inner.stage_training(training)

    @property
    def own_lr_scale(self) -> float:
        """Return the value of the inner method."""
        return self.inner.own_lr_scale

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Train the estimator of up, then call the inner method with source clips and turned target clips."""
        self.frame.prepare(detector, source, target)
        turned = partial(self._turned, partial(self.frame.turns, detector))
        upright = partial(self._turned, lambda batch: torch.zeros(len(batch)))
        self.inner.before_training(detector, _Mapped(source, upright), _Mapped(target, turned))

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Estimate up every ``round_epochs`` epochs, then call the inner method with turned target clips."""
        network = self.inner.network(detector)
        if epoch % self.arguments.round_epochs == 0:
            look = partial(self._look, network)
            self.ups = Round.collect(target, look, degrees=torch.zeros(0))
        self.inner.before_epoch(detector, _Mapped(target, partial(self._turned, self.turns)), epoch)

    def _turned(self, turns: Callable[[ClipBatch], Tensor], batch: ClipBatch) -> ClipBatch:
        return turned_view(batch, turns(batch), self.arguments)

    def _look(self, network: ActionDetector, batch: ClipBatch) -> dict[str, Tensor]:
        return {"degrees": self.frame.find(network, batch).degrees.cpu()}

    def turns(self, target: ClipBatch) -> Tensor:
        """Degrees ``(B,)`` that turn each clip upright: the opposite of the up of its first person."""
        return upright_turns(target, self.ups.of("degrees", target.people))

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """Return the losses of the inner method; with ``person_crop``, on crops of random size."""
        view = partial(training_view, settings=self.arguments)
        source, target = None if source is None else view(source), None if target is None else view(target)
        return self.inner.step_losses(detector, source, target, progress)

    def after_step(self, detector: ActionDetector) -> None:
        """Call the inner method."""
        self.inner.after_step(detector)

    def after_training(self, detector: ActionDetector) -> None:
        """Call the inner method, and clear the angles."""
        self.inner.after_training(detector)
        self.ups = _empty_round()

    def network(self, detector: ActionDetector) -> ActionDetector:
        """Return the value of the inner method."""
        return self.inner.network(detector)

    def get_extra_state(self) -> RoundState:
        """Return the angles, so that a resumed stage continues with them."""
        return self.ups.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Restore the angles."""
        self.ups = Round.from_state(state)


class _Mapped:
    """Batches that a function maps lazily; can be iterated several times.

    Args:
        batches: the batches.
        function: maps a batch.
    """

    def __init__(self, batches: Iterable[ClipBatch], function: Callable[[ClipBatch], ClipBatch]) -> None:
        self.batches, self.function = batches, function

    def __iter__(self) -> Iterator[ClipBatch]:
        return map(self.function, self.batches)


def _inner_method(arguments: GravityTrainingArguments, task: Task) -> TrainingMethod:
    """Create the inner method.

    Raises:
        InputError: if it does not train, reads target labels, or has its own test-time method.
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


def _empty_round() -> Round:
    return Round([], degrees=torch.zeros(0))
