"""The base classes of adaptation methods.

There are two kinds, and a run has at most one of each.

* A :class:`TrainingMethod` turns clips into losses. Subclass :class:`DomainAdaptation` (labelled source clips and
  unlabelled target clips), :class:`SourceFreeAdaptation` (unlabelled target clips alone) or :class:`Supervised`
  (labelled clips alone).
* A :class:`TestTimeMethod` turns a batch into a prediction with a detector that is already trained.

Parameters, buffers and extra state of a method are saved with checkpoints and with the finished detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.forward import (
    detect,
    forward_both,
    labelled,
    limit_clips,
    required,
    split_prediction,
    supervised_losses,
)
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.method import Knowledge, Losses, Method, NoArguments, Task
from microg_da.config import TrainingConfig, typed_arguments
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch, Prediction

__all__ = [
    "DomainAdaptation",
    "Knowledge",
    "Losses",
    "Method",
    "NoArguments",
    "SourceFreeAdaptation",
    "Supervised",
    "Task",
    "TestTimeMethod",
    "TrainingMethod",
    "create_adaptation",
    "detect",
    "forward_both",
    "labelled",
    "limit_clips",
    "method_arguments",
    "methods_of",
    "split_prediction",
    "with_short_warmup",
]


class TestTimeMethod(Method):
    """Turns a batch into a prediction with a trained detector.

    Example:
        >>> from dataclasses import replace
        >>> from microg_da import Prediction, TestTimeMethod
        >>> class FlipAverage(TestTimeMethod):
        ...     def predict(self, detector, batch):
        ...         boxes = batch.boxes.clone()
        ...         boxes[:, [0, 2]] = batch.frames.shape[-1] - batch.boxes[:, [2, 0]]
        ...         mirrored = replace(batch, frames=batch.frames.flip(-1), boxes=boxes)
        ...         first, second = (super(FlipAverage, self).predict(detector, each) for each in (batch, mirrored))
        ...         return Prediction((first.logits + second.logits) / 2, (first.features + second.features) / 2)
        >>> FlipAverage.uses_target_labels
        False

    :meth:`prepare` looks at training clips once. :meth:`predict` is called for each batch between :meth:`start_test`
    and :meth:`end_test`. Its support is saved with it: when a finished detector is read back, no label is at hand.

    Attributes:
        decision_shift: ``(C,)`` what a :class:`~microg_da.adaptation.predictor.Predictor` adds to the logits that the
            method predicts; see ``adaptation.match_rates``.
    """

    decision_shift: Tensor

    __test__ = False  # pytest collects classes named Test*

    def __init__(self, arguments: object, task: Task) -> None:
        super().__init__(arguments, task)
        self.register_buffer("support", self.support, persistent=True)
        self.register_buffer("decision_shift", torch.zeros(task.num_classes))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # Files of older versions: all classes took part, and decisions were not shifted.
        state_dict.setdefault(f"{prefix}support", torch.ones_like(self.support))
        state_dict.setdefault(f"{prefix}decision_shift", torch.zeros_like(self.decision_shift))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Look at training clips once, after the detector is trained.

        Both iterables are lazy and can be iterated several times.

        Args:
            detector: in evaluation mode.
            source: source training clips, in order, each as it is tested: not augmented, without a random crop.
            target: target training clips, likewise.
        """

    def start_test(self, detector: ActionDetector) -> None:
        """Called before a pass over test or validation clips."""

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Predict the people of a batch; gradients are available under ``torch.enable_grad()``."""
        return detect(detector, batch)

    def end_test(self, detector: ActionDetector) -> None:
        """Called after such a pass; leaves the detector as :meth:`start_test` found it."""


class TrainingMethod(Method):
    """Trains a detector in one stage.

    Attributes:
        uses_source: whether the stage reads labelled source clips.
        has_epochs: whether the stage takes steps. A method without them changes the detector in
            :meth:`before_training` alone.
        has_companion: whether :attr:`companion` is a method.
    """

    uses_source: ClassVar[bool] = True
    has_epochs: ClassVar[bool] = True
    has_companion: ClassVar[bool] = False

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """The optimiser, learning rate and warm-up of the stage, where the method has its own.

        Args:
            training: as configured, ``adaptation.lr`` and ``adaptation.epochs`` included.
        """
        return training

    @property
    def own_lr_scale(self) -> float:
        """Factor of the learning rate of the method's own parameters, e.g. of a domain classifier."""
        return 1.0

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """The losses of one step.

        Args:
            detector: the network in training.
            source: labelled source clips, augmented; None in a stage without source clips.
            target: target clips, augmented; None in a stage without target clips. They are a
                :class:`~microg_da.types.LabelledClipBatch` for a method with ``uses_target_labels`` only.
            progress: how much of the stage is done, in [0, 1).
        """
        raise NotImplementedError

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Look at training clips once, before training.

        Called again when an interrupted stage is resumed, before its state is read back. Both iterables are lazy and
        can be iterated several times.

        Args:
            detector: the source model, in evaluation mode.
            source: source training clips, in order, each as it is tested: not augmented, without a random crop. They
                may carry labels.
            target: target training clips, likewise, without labels.
        """

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Called at the beginning of each epoch, e.g. to label target clips.

        Args:
            detector: the network, in evaluation mode.
            target: all target training clips, as in :meth:`before_training`; lazy.
            epoch: counted from 0.
        """

    def turns(self, target: ClipBatch) -> Tensor | None:
        """Degrees ``(B,)`` by which the clips of a training batch are turned clockwise before augmentation.

        Args:
            target: target clips as they were filmed, without labels.

        Returns:
            None to leave all clips as they are.
        """
        return None

    def after_step(self, detector: ActionDetector) -> None:
        """Called after each step of the optimiser, e.g. to update a teacher."""

    def after_training(self, detector: ActionDetector) -> None:
        """Leave in ``detector`` what is tested and saved, e.g. the weights of a teacher."""

    def network(self, detector: ActionDetector) -> ActionDetector:
        """The network that is validated during the stage: the detector, or a teacher that replaces it at the end."""
        return detector

    @property
    def companion(self) -> TestTimeMethod | None:
        """The test-time method that this method's detector is made for, if it has one of its own."""
        return None


class DomainAdaptation(TrainingMethod):
    """Trains on labelled source clips and unlabelled target clips.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from microg_da import DomainAdaptation, Prediction, create_adaptation
        >>> @dataclass
        ... class Arguments:
        ...     weight: float = 1.0
        >>> class MeanDifference(DomainAdaptation):
        ...     Arguments = Arguments
        ...     def losses(self, source, target, labels, progress):
        ...         difference = source.features.mean(dim=0) - target.features.mean(dim=0)
        ...         return {"mean_difference": self.arguments.weight * difference.square().sum()}
        >>> method = create_adaptation(MeanDifference, {"weight": 0.5}, feature_dim=3, num_classes=50)
        >>> source, target = (Prediction(torch.zeros(2, 50), torch.full((2, 3), value)) for value in (1.0, 3.0))
        >>> method.losses(source, target, torch.zeros(2, 50), progress=0.0)
        {'mean_difference': tensor(6.)}

    Override :meth:`losses` for losses on RoI features or logits. Override :meth:`training_losses` for more than one
    forward pass.
    """

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """The losses of one step; arguments as in :meth:`TrainingMethod.step_losses`."""
        return self.training_losses(detector, required(source, "source"), required(target, "target"), progress)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """The supervised loss of the source, and :meth:`losses`. One forward pass serves both domains."""
        of_source, of_target = forward_both(detector, source, target)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            **self.losses(of_source, of_target, source.labels, progress),
        }

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Losses in addition to the supervised one.

        Args:
            source: predictions for the ``K_s`` people of the source batch (``K_s`` may be 0).
            target: predictions for the ``K_t`` people of the unlabelled target batch (``K_t`` may be 0).
            labels: ``(K_s, C)`` labels of the source people.
            progress: how much of the stage is done, in [0, 1).
        """
        return {}


class SourceFreeAdaptation(TrainingMethod):
    """Trains on unlabelled target clips alone.

    Example:
        >>> import torch
        >>> from microg_da import Prediction, SourceFreeAdaptation, create_adaptation
        >>> class MinimumEntropy(SourceFreeAdaptation):
        ...     def losses(self, target, progress):
        ...         probabilities = target.logits.sigmoid()
        ...         return {"entropy": torch.special.entr(probabilities).mean()}
        >>> method = create_adaptation(MinimumEntropy, feature_dim=3, num_classes=50)
        >>> method.losses(Prediction(torch.zeros(2, 50), torch.zeros(2, 3)), progress=0.0)
        {'entropy': tensor(0.3466)}

    Override :meth:`losses` for losses on RoI features or logits. Override :meth:`training_losses` for more than one
    forward pass.
    """

    uses_source: ClassVar[bool] = False

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """The losses of one step; arguments as in :meth:`TrainingMethod.step_losses`."""
        return self.training_losses(detector, required(target, "target"), progress)

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """The losses of one forward pass."""
        return self.losses(detect(detector, target), progress)

    def losses(self, target: Prediction, progress: float) -> Losses:
        """The losses of the ``K_t`` target people (``K_t`` may be 0); arguments as in :class:`DomainAdaptation`."""
        raise NotImplementedError


class Supervised(TrainingMethod):
    """Trains on the labels of the source, as the source stage does."""

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """The supervised loss; target clips are not looked at."""
        return supervised_losses(detector, required(source, "source"))


def with_short_warmup(training: TrainingConfig, share: float = 0.1) -> TrainingConfig:
    """The same stage with a warm-up of at most a ``share`` of each cycle, for methods that have few steps to learn."""
    longest = share * training.epochs / training.cycles
    return replace(training, warmup_epochs=min(training.warmup_epochs, longest))


def create_adaptation(
    method: str | type[Method],
    arguments: Mapping[str, object] | None = None,
    *,
    feature_dim: int,
    num_classes: int,
    class_groups: Sequence[int] | None = None,
    class_rates: Sequence[float] | None = None,
) -> Method:
    """Build a method, by its name or from its class.

    Example:
        >>> from microg_da import create_adaptation, create_detector
        >>> detector = create_detector("r2plus1d_micro")
        >>> method = create_adaptation(
        ...     "dann", {"weight": 0.5}, feature_dim=detector.feature_dim, num_classes=detector.num_classes
        ... )
        >>> method.arguments.weight
        0.5

    Args:
        method: a name of :func:`~microg_da.list_adaptations`, ``package.module:Class``, or a class that is derived from
            :class:`DomainAdaptation`, :class:`SourceFreeAdaptation` or :class:`TestTimeMethod`.
        arguments: values for the fields of its ``Arguments``.
        feature_dim: D, the length of a RoI feature.
        num_classes: C.
        class_groups: ``(C,)`` the group of each class as an index; None puts all classes into one group.
        class_rates: see :class:`Task`.

    Raises:
        InputError: if the name or an argument does not exist, a value has the wrong type, or the class is no method.
    """
    groups = tuple(class_groups) if class_groups is not None else (0,) * num_classes
    rates = tuple(class_rates) if class_rates is not None else None
    return _method_class(method)(method_arguments(method, arguments), Task(feature_dim, num_classes, groups, rates))


def check_outside_method(what: str, found: object) -> None:
    """Refuse an object from outside the package that is no method.

    Args:
        what: begins the message, e.g. ``"adaptation 'package.module:Name'"``.
        found: the object.

    Raises:
        InputError: if it is no class that is derived from a class of this module.
    """
    if not (isinstance(found, type) and issubclass(found, (TrainingMethod, TestTimeMethod))):
        raise InputError(
            f"{what}: expected a class derived from DomainAdaptation, SourceFreeAdaptation, TrainingMethod or "
            f"TestTimeMethod of microg_da, found {found!r}."
        )
    if not is_dataclass(found.Arguments):
        raise InputError(f"{what}: its Arguments must be a dataclass, found {found.Arguments!r}.")


def methods_of(kind: type[Method]) -> tuple[str, ...]:
    """The names of the registered methods of one kind, e.g. of :class:`TrainingMethod`."""
    return tuple(name for name in ADAPTATIONS if issubclass(ADAPTATIONS.load(name), kind))


def method_arguments(
    method: str | type[Method], arguments: Mapping[str, object] | None = None, *, key: str = "adaptation.args"
) -> object:
    """The ``Arguments`` of a method, filled and checked; errors as :func:`create_adaptation`."""
    name = method if isinstance(method, str) else method.__name__
    kind = _method_class(method)
    return typed_arguments(kind.Arguments, arguments or {}, f"adaptation {name!r}", key)


def _method_class(method: str | type[Method]) -> type[Method]:
    if not isinstance(method, str):
        check_outside_method("create_adaptation", method)
        return method
    found: type[Method] = ADAPTATIONS.load(method, "adaptation.name")
    return found
