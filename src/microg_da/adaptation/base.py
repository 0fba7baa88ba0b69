"""What every adaptation method is: a module that turns source and target predictions into losses.

A method overrides one of four hooks and leaves the rest:

* :meth:`Adaptation.losses`, for methods that add losses on RoI features or logits (most of them);
* :meth:`Adaptation.training_losses`, for methods that need more than one forward pass;
* :meth:`Adaptation.before_training`, for methods that look at the target clips once;
* :meth:`Adaptation.predict`, for methods that act at test time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    Attributes:
        Arguments: dataclass of the method's own settings, filled from ``adaptation.args``.
        trains: whether the method has a training stage; one that only looks at the target clips once, or acts
            at test time, does not.
    """

    Arguments: ClassVar[type] = NoArguments
    trains: ClassVar[bool] = True

    def __init__(self, arguments: Any, *, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.arguments = arguments
        self.feature_dim = feature_dim
        self.num_classes = num_classes

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> dict[str, Tensor]:
        """Named, weighted losses besides the supervised one.

        Args:
            source: predictions for the ``K_s`` people of the source batch (``K_s`` may be 0).
            target: predictions for the ``K_t`` people of the unlabelled target batch (``K_t`` may be 0).
            labels: ``(K_s, C)`` labels of the source people.
            progress: how much of the stage is done, in [0, 1).
        """
        return {}

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """All losses of one step; their sum is minimised. One forward pass serves both domains."""
        assert source.labels is not None
        if target is None:
            prediction = detector(source.frames, source.boxes, source.clip_index)
            return {"supervised": multilabel_bce(prediction.logits, source.labels)}
        both = concatenate_batches(source, target)
        prediction = detector(both.frames, both.boxes, both.clip_index)
        of_source, of_target = split_prediction(prediction, source.num_boxes)
        supervised = multilabel_bce(of_source.logits, source.labels)
        return {"supervised": supervised, **self.losses(of_source, of_target, source.labels, progress)}

    def before_training(self, detector: ActionDetector, target: Iterable[ClipBatch]) -> None:
        """Look at the unlabelled target clips once, before (or, with ``trains = False``, instead of) training."""

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """What the adapted detector says about a test batch."""
        return detector(batch.frames, batch.boxes, batch.clip_index)


def split_prediction(prediction: Prediction, count: int) -> tuple[Prediction, Prediction]:
    """The first ``count`` people and the rest."""
    return (
        Prediction(prediction.logits[:count], prediction.features[:count]),
        Prediction(prediction.logits[count:], prediction.features[count:]),
    )


def create_adaptation(
    name: str, arguments: Mapping[str, Any] | None = None, *, feature_dim: int, num_classes: int
) -> Adaptation:
    """Build a method by name.

    Args:
        name: a name in :data:`microg_da.adaptation.ADAPTATIONS`.
        arguments: values for the fields of its ``Arguments``.
        feature_dim: D, the length of a RoI feature.
        num_classes: C.

    Raises:
        InputError: if the name or an argument does not exist, or a value has the wrong type.
    """
    method: type[Adaptation] = ADAPTATIONS.load(name, "adaptation.name")
    return method(method_arguments(name, arguments), feature_dim=feature_dim, num_classes=num_classes)


def method_arguments(name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """The ``Arguments`` of a method, filled and checked; errors as :func:`create_adaptation`."""
    method: type[Adaptation] = ADAPTATIONS.load(name, "adaptation.name")
    schema = OmegaConf.structured(method.Arguments)
    for key, value in (arguments or {}).items():
        if key not in schema:
            raise unknown_name(f"argument of adaptation {name!r}", str(key), list(schema), "adaptation.args")
        try:
            schema[key] = value
        except OmegaConfBaseException as error:
            kind = next(field.type for field in fields(method.Arguments) if field.name == key)
            raise InputError(f"adaptation.args.{key}={value!r} does not fit: expected {kind}.") from error
    return OmegaConf.to_object(schema)
