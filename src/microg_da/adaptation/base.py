"""What every adaptation method is: a module that turns source and target predictions into losses.

A method overrides the hooks it needs and leaves the rest:

* :meth:`Adaptation.losses`, for methods that add losses on RoI features or logits (most of them), or
  :meth:`Adaptation.target_losses`, for those that do without source clips (``uses_source = False``);
* :meth:`Adaptation.training_losses`, for methods that need more than one forward pass;
* :meth:`Adaptation.before_training`, for methods that look at clips once or keep a copy of the source model;
* :meth:`Adaptation.before_epoch`, for methods that label the target clips anew every epoch;
* :meth:`Adaptation.turns`, for methods that learn from target clips under rolls of their own choice;
* :meth:`Adaptation.take_over`, for methods that act at test time with what the training method has learnt;
* :meth:`Adaptation.after_step` and :meth:`Adaptation.after_training`, for methods with a teacher;
* :meth:`Adaptation.predict` between :meth:`Adaptation.start_test` and :meth:`Adaptation.end_test`, for methods that
  act at test time.

What a method keeps in its parameters and buffers is saved with checkpoints and with the finished detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.clips import ClipBatch, concatenate_batches
from microg_da.errors import InputError, unknown_name
from microg_da.models.detector import ActionDetector, Prediction


@dataclass
class NoArguments:
    """For methods that have nothing to set."""


class Adaptation(nn.Module):
    """One way to use unlabelled target clips.

    Args:
        arguments: an instance of the class's ``Arguments``.
        feature_dim: D, the length of a RoI feature.
        num_classes: C.
        class_groups: ``(C,)`` the group of each class (movement, object manipulation, person interaction) as an
            index; None puts all classes into one.
        class_rates: ``(C,)`` the share of source training people who have each class; None if it is not known.

    Attributes:
        Arguments: dataclass of the method's own settings, filled from ``adaptation.args``.
        trains: whether the method has a training stage; one that only looks at clips once, or acts at test time,
            does not.
        uses_source: whether its training stage reads labelled source clips.
        uses_target_labels: whether its training stage reads target labels; such a method is an oracle.
    """

    Arguments: ClassVar[type] = NoArguments
    trains: ClassVar[bool] = True
    uses_source: ClassVar[bool] = True
    uses_target_labels: ClassVar[bool] = False

    def __init__(
        self,
        arguments: Any,
        *,
        feature_dim: int,
        num_classes: int,
        class_groups: Sequence[int] | None = None,
        class_rates: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.feature_dim = feature_dim
        self.num_classes = num_classes
        self.class_groups = tuple(class_groups) if class_groups is not None else (0,) * num_classes
        self.class_rates = tuple(class_rates) if class_rates is not None else None

    # ------------------------------------------------------------------------------------------------ training

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> dict[str, Tensor]:
        """Named, weighted losses besides the supervised one.

        Args:
            source: predictions for the ``K_s`` people of the source batch (``K_s`` may be 0).
            target: predictions for the ``K_t`` people of the unlabelled target batch (``K_t`` may be 0).
            labels: ``(K_s, C)`` labels of the source people.
            progress: how much of the stage is done, in [0, 1).
        """
        return {}

    def target_losses(self, target: Prediction, progress: float) -> dict[str, Tensor]:
        """Named, weighted losses of a method without source clips; arguments as in :meth:`losses`."""
        raise NotImplementedError(f"{type(self).__name__} does not train without source clips")

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch | None, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """All losses of one step; their sum is minimised. One forward pass serves both domains.

        Args:
            detector: the network in training.
            source: labelled source clips, augmented; None in a stage without source clips.
            target: unlabelled target clips, augmented; None in a stage without target clips.
            progress: how much of the stage is done, in [0, 1).
        """
        if source is None:
            assert target is not None
            return self.target_losses(detector(target.frames, target.boxes, target.clip_index), progress)
        assert source.labels is not None
        if target is None:
            prediction = detector(source.frames, source.boxes, source.clip_index)
            return {"supervised": multilabel_bce(prediction.logits, source.labels)}
        both = concatenate_batches(source, target)
        prediction = detector(both.frames, both.boxes, both.clip_index)
        of_source, of_target = split_prediction(prediction, source.num_boxes)
        supervised = multilabel_bce(of_source.logits, source.labels)
        return {"supervised": supervised, **self.losses(of_source, of_target, source.labels, progress)}

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Look at training clips once, before (or, with ``trains = False``, instead of) training.

        Called again when an interrupted stage is resumed, before its state is read back. Both iterables are lazy and
        can be walked several times: a method pays only for what it looks at.

        Args:
            detector: the source model, in evaluation mode.
            source: source training clips, in order, each as it is tested: not augmented, no random crop. They may
                carry labels.
            target: target training clips, likewise, never with labels.
        """

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Called at the beginning of each epoch with the detector in evaluation mode, e.g. to label target clips.

        Args:
            detector: the network as it is.
            target: all target training clips, as in :meth:`before_training`, never with labels; lazy.
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

    def take_over(self, trained: Adaptation) -> None:
        """Take from the method that trained the detector what this one needs at test time.

        Called after training and before :meth:`before_training`, and only where one method trains and another acts at
        test time.
        """

    def after_step(self, detector: ActionDetector) -> None:
        """Called after each step of the optimiser, e.g. to let a teacher follow."""

    def after_training(self, detector: ActionDetector) -> None:
        """Leave in ``detector`` what is to be tested and saved, e.g. the weights of a teacher."""

    # -------------------------------------------------------------------------------------------- test and validation

    def start_test(self, detector: ActionDetector) -> None:
        """Called before a pass over test or validation clips."""

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """What the adapted detector says about a batch; gradients may be asked for with ``torch.enable_grad()``."""
        return detector(batch.frames, batch.boxes, batch.clip_index)

    @property
    def acts_at_test_time(self) -> bool:
        """Whether it predicts anything else than the trained detector by itself does."""
        return any(getattr(type(self), hook) is not getattr(Adaptation, hook) for hook in ("start_test", "predict"))

    def end_test(self, detector: ActionDetector) -> None:
        """Called after such a pass; leaves the detector as :meth:`start_test` found it."""


def split_prediction(prediction: Prediction, count: int) -> tuple[Prediction, Prediction]:
    """The first ``count`` people and the rest."""
    return (
        Prediction(prediction.logits[:count], prediction.features[:count]),
        Prediction(prediction.logits[count:], prediction.features[count:]),
    )


def create_adaptation(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    feature_dim: int,
    num_classes: int,
    class_groups: Sequence[int] | None = None,
    class_rates: Sequence[float] | None = None,
) -> Adaptation:
    """Build a method by name.

    Args:
        name: a name in :data:`microg_da.adaptation.ADAPTATIONS`.
        arguments: values for the fields of its ``Arguments``.
        feature_dim: D, the length of a RoI feature.
        num_classes: C.
        class_groups: see :class:`Adaptation`.
        class_rates: likewise.

    Raises:
        InputError: if the name or an argument does not exist, or a value has the wrong type.
    """
    method: type[Adaptation] = ADAPTATIONS.load(name, "adaptation.name")
    return method(
        method_arguments(name, arguments),
        feature_dim=feature_dim,
        num_classes=num_classes,
        class_groups=class_groups,
        class_rates=class_rates,
    )


def method_arguments(name: str, arguments: Mapping[str, Any] | None = None, *, key: str = "adaptation.args") -> Any:
    """The ``Arguments`` of a method, filled and checked; errors as :func:`create_adaptation`."""
    method: type[Adaptation] = ADAPTATIONS.load(name, "adaptation.name")
    schema = OmegaConf.structured(method.Arguments)
    for argument, value in (arguments or {}).items():
        if argument not in schema:
            raise unknown_name(f"argument of adaptation {name!r}", str(argument), list(schema), key)
        try:
            schema[argument] = value
        except OmegaConfBaseException as error:
            kind = next(field.type for field in fields(method.Arguments) if field.name == argument)
            raise InputError(f"{key}.{argument}={value!r} does not fit: expected {kind}.") from error
    return OmegaConf.to_object(schema)
