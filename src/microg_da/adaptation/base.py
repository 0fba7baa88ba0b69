"""The base classes of adaptation methods.

There are two kinds. A run has at most one method of each.

* A :class:`TrainingMethod` computes losses from clips. Subclass :class:`DomainAdaptation` (labelled source clips and
  unlabelled target clips), :class:`SourceFreeAdaptation` (only unlabelled target clips) or :class:`Supervised` (only
  labelled clips).
* A :class:`TestTimeMethod` predicts a batch with a trained detector.

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
    """Base class of methods that predict a batch with a trained detector.

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

    :meth:`prepare` reads training clips once. :meth:`predict` is called for each batch between :meth:`start_test` and
    :meth:`end_test`. The support is saved with the method, since labels are not available when a finished detector is
    loaded.

    Attributes:
        decision_shift: ``(C,)`` values that a :class:`~microg_da.adaptation.predictor.Predictor` adds to the logits of
            the method; see ``adaptation.match_rates``.
    """

    decision_shift: Tensor

    __test__ = False  # pytest collects classes named Test*

    def __init__(self, arguments: object, task: Task) -> None:
        super().__init__(arguments, task)
        self.register_buffer("support", self.support, persistent=True)
        self.register_buffer("decision_shift", torch.zeros(task.num_classes))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # Files of older versions contain neither value: all classes are in the support, and logits are not shifted.
        state_dict.setdefault(f"{prefix}support", torch.ones_like(self.support))
        state_dict.setdefault(f"{prefix}decision_shift", torch.zeros_like(self.decision_shift))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Process training clips once, after the detector is trained.

        Both iterables are lazy and can be iterated several times.

        Args:
            detector: the detector, in evaluation mode.
            source: source training clips in order, in test views: without augmentation and random crops.
            target: target training clips, likewise in test views.
        """

    def start_test(self, detector: ActionDetector) -> None:
        """Called before a pass over test or validation clips."""

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Predict the people of a batch; gradients are available under ``torch.enable_grad()``."""
        return detect(detector, batch)

    def end_test(self, detector: ActionDetector) -> None:
        """Called after the pass; restores the detector to its state before :meth:`start_test`."""


class TrainingMethod(Method):
    """Base class of methods that train a detector in one stage.

    Attributes:
        uses_source: whether the stage reads labelled source clips.
        has_epochs: whether the stage has optimisation steps. Other methods change the detector only in
            :meth:`before_training`.
        has_companion: whether :attr:`companion` returns a method.
    """

    uses_source: ClassVar[bool] = True
    has_epochs: ClassVar[bool] = True
    has_companion: ClassVar[bool] = False

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Return the optimiser, learning rate and warm-up of the stage; a method may override them.

        Args:
            training: the configured settings, including ``adaptation.lr`` and ``adaptation.epochs``.
        """
        return training

    @property
    def own_lr_scale(self) -> float:
        """Factor of the learning rate for the parameters of the method, e.g. of a domain classifier."""
        return 1.0

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """Return the losses of one step.

        Args:
            detector: the network in training.
            source: labelled source clips, augmented; None in a stage without source clips.
            target: target clips, augmented; None in a stage without target clips. Only a method with
                ``uses_target_labels`` receives a :class:`~microg_da.types.LabelledClipBatch`.
            progress: the completed fraction of the stage, in [0, 1).
        """
        raise NotImplementedError

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Process training clips once, before training.

        It is called again when an interrupted stage is resumed, before the state is restored. Both iterables are lazy
        and can be iterated several times.

        Args:
            detector: the source model, in evaluation mode.
            source: source training clips in order, in test views: without augmentation and random crops. They may have
                labels.
            target: target training clips, likewise in test views, without labels.
        """

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Called at the start of each epoch, e.g. to create pseudo-labels.

        Args:
            detector: the network, in evaluation mode.
            target: all target training clips, as in :meth:`before_training`; lazy.
            epoch: counted from 0.
        """

    def turns(self, target: ClipBatch) -> Tensor | None:
        """Return the degrees ``(B,)`` by which training clips are turned clockwise before augmentation.

        Args:
            target: target clips as filmed, without labels.

        Returns:
            None if no clip is turned.
        """
        return None

    def after_step(self, detector: ActionDetector) -> None:
        """Called after each step of the optimiser, e.g. to update a teacher."""

    def after_training(self, detector: ActionDetector) -> None:
        """Set the weights in ``detector`` that are tested and saved, e.g. those of a teacher."""

    def network(self, detector: ActionDetector) -> ActionDetector:
        """Return the network to validate during the stage: the detector, or a teacher that replaces it at the end."""
        return detector

    @property
    def companion(self) -> TestTimeMethod | None:
        """Return the test-time method that belongs to this method, or None."""
        return None


class DomainAdaptation(TrainingMethod):
    """Base class of methods that train on labelled source clips and unlabelled target clips.

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
        """Return the supervised source loss and :meth:`losses`, from one forward pass over both domains."""
        of_source, of_target = forward_both(detector, source, target)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            **self.losses(of_source, of_target, source.labels, progress),
        }

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the losses in addition to the supervised loss.

        Args:
            source: predictions for the ``K_s`` people of the source batch (``K_s`` may be 0).
            target: predictions for the ``K_t`` people of the unlabelled target batch (``K_t`` may be 0).
            labels: ``(K_s, C)`` labels of the source people.
            progress: the completed fraction of the stage, in [0, 1).
        """
        return {}


class SourceFreeAdaptation(TrainingMethod):
    """Base class of methods that train only on unlabelled target clips.

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
        """Return the losses of one forward pass."""
        return self.losses(detect(detector, target), progress)

    def losses(self, target: Prediction, progress: float) -> Losses:
        """Return the losses of ``K_t`` target people (``K_t`` may be 0); arguments as in :class:`DomainAdaptation`."""
        raise NotImplementedError


class Supervised(TrainingMethod):
    """Trains on source labels, as in the source stage."""

    def step_losses(
        self, detector: ActionDetector, source: LabelledClipBatch | None, target: ClipBatch | None, progress: float
    ) -> Losses:
        """Return the supervised loss; target clips are ignored."""
        return supervised_losses(detector, required(source, "source"))


def with_short_warmup(training: TrainingConfig, share: float = 0.1) -> TrainingConfig:
    """Return the settings with a warm-up of at most ``share`` of each cycle, for methods with few steps."""
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
    """Create a method by name or from its class.

    Example:
        >>> from microg_da import create_adaptation, create_detector
        >>> detector = create_detector("r2plus1d_micro")
        >>> method = create_adaptation(
        ...     "dann", {"weight": 0.5}, feature_dim=detector.feature_dim, num_classes=detector.num_classes
        ... )
        >>> method.arguments.weight
        0.5

    Args:
        method: a name from :func:`~microg_da.list_adaptations`, ``package.module:Class``, or a class derived from
            :class:`DomainAdaptation`, :class:`SourceFreeAdaptation` or :class:`TestTimeMethod`.
        arguments: values for the fields of its ``Arguments``.
        feature_dim: D, the dimension of RoI features.
        num_classes: C, the number of classes.
        class_groups: ``(C,)`` the group index of each class; None for a single group.
        class_rates: see :class:`Task`.

    Raises:
        InputError: for an unknown name or argument, a value of the wrong type, or a class that is not a method.
    """
    groups = tuple(class_groups) if class_groups is not None else (0,) * num_classes
    rates = tuple(class_rates) if class_rates is not None else None
    return _method_class(method)(method_arguments(method, arguments), Task(feature_dim, num_classes, groups, rates))


def check_outside_method(what: str, found: object) -> None:
    """Check that an object from outside the package is a method.

    Args:
        what: the start of the error message, e.g. ``"adaptation 'package.module:Name'"``.
        found: the object.

    Raises:
        InputError: if it is not a class derived from a class of this module.
    """
    if not (isinstance(found, type) and issubclass(found, (TrainingMethod, TestTimeMethod))):
        raise InputError(
            f"{what}: expected a class derived from DomainAdaptation, SourceFreeAdaptation, TrainingMethod or "
            f"TestTimeMethod of microg_da, found {found!r}."
        )
    if not is_dataclass(found.Arguments):
        raise InputError(f"{what}: its Arguments must be a dataclass, found {found.Arguments!r}.")


def methods_of(kind: type[Method]) -> tuple[str, ...]:
    """Return the names of the registered methods of one kind, e.g. :class:`TrainingMethod`."""
    return tuple(name for name in ADAPTATIONS if issubclass(ADAPTATIONS.load(name), kind))


def method_arguments(
    method: str | type[Method], arguments: Mapping[str, object] | None = None, *, key: str = "adaptation.args"
) -> object:
    """Return the checked ``Arguments`` of a method; errors are those of :func:`create_adaptation`."""
    name = method if isinstance(method, str) else method.__name__
    kind = _method_class(method)
    return typed_arguments(kind.Arguments, arguments or {}, f"adaptation {name!r}", key)


def _method_class(method: str | type[Method]) -> type[Method]:
    if not isinstance(method, str):
        check_outside_method("create_adaptation", method)
        return method
    found: type[Method] = ADAPTATIONS.load(method, "adaptation.name")
    return found
