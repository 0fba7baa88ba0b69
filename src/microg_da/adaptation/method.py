"""What training methods and test-time methods share: their arguments, their task, the classes that take part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from microg_da.adaptation.support import support_of_predictions, support_of_rates
from microg_da.models.detector import ActionDetector
from microg_da.transforms.stored_frames import AS_FILMED, StoredView

Losses = dict[str, Tensor]
"""Named, weighted losses; their sum is minimised."""

Knowledge = Literal["rolls", "class_rates"]
"""Knowledge of a method about the shift: the camera rolls, or classes are as common as in the source."""


@dataclass
class NoArguments:
    """The arguments of a method that has nothing to set."""


@dataclass(frozen=True)
class Task:
    """Facts about the detector and the labels that a method receives.

    Attributes:
        feature_dim: D, the length of a RoI feature.
        num_classes: C.
        class_groups: ``(C,)`` the group of each class (movement, object manipulation, person interaction) as an index.
        class_rates: ``(C,)`` the share of source training people who have each class; None if it is not known.
    """

    feature_dim: int
    num_classes: int
    class_groups: tuple[int, ...]
    class_rates: tuple[float, ...] | None = None

    @property
    def support(self) -> tuple[bool, ...]:
        """``(C,)`` whether labelled source people have the class; True for all where their labels are not known."""
        return support_of_rates(self.class_rates, self.num_classes)


class Method(nn.Module):
    """Base class of training methods and test-time methods.

    Args:
        arguments: an instance of the class's ``Arguments``.
        task: what is known of the detector and the labels.

    Attributes:
        Arguments: dataclass of the method's settings, filled from ``adaptation.args``.
        arguments: the instance; a subclass that reads it annotates its own type.
        uses_target_labels: whether the method reads target labels. Such a method is an oracle.
        knowledge: what it knows of the shift, so that tables can tell it from a method that knows nothing.
        needs_encoder: why the method needs the encoder itself and not only its feature maps, as the end of a sentence
            that begins with the method's name; None if maps under ``stored_views`` are enough. A method that needs it
            cannot read a feature store.
        stored_views: under which rolls and mirror images the method looks at clips: a test-time method at the clips
            that it predicts and prepares with, a training method at target clips that are not augmented.
        support: ``(C,)`` bool, the classes that take part in losses and labels of the target; see
            :mod:`microg_da.adaptation.support`. A method without source labels sets it by what the source model
            predicts, in :meth:`find_support`.
    """

    Arguments: ClassVar[type] = NoArguments
    arguments: object
    uses_target_labels: ClassVar[bool] = False
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset()
    needs_encoder: str | None = None
    stored_views: tuple[StoredView, ...] = (AS_FILMED,)
    support: Tensor

    def __init__(self, arguments: object, task: Task) -> None:
        super().__init__()
        self.arguments = arguments
        self.task = task
        self.register_buffer("support", torch.tensor(task.support), persistent=False)

    @classmethod
    def knowledge_with(cls, arguments: Mapping[str, object]) -> frozenset[Knowledge]:
        """What the method knows of the shift with these arguments: :attr:`knowledge`, unless it holds another method.

        Args:
            arguments: as in ``adaptation.args``.
        """
        return cls.knowledge

    def supported(self, values: Tensor) -> Tensor:
        """``(…, C')`` of ``(…, C)``: the columns of the classes in :attr:`support`, which are at least one."""
        return values[..., self.support]

    def find_support(self, probabilities: Tensor) -> None:
        """Set :attr:`support` by the source model's probabilities ``(N, C)``, for a method without source labels.

        A companion of the method gets the same.
        """
        found = support_of_predictions(probabilities)
        for part in self.modules():
            if isinstance(part, Method):
                part.support.copy_(found)

    def built_for(self, detector: ActionDetector) -> None:
        """Add the layers that depend on the detector's architecture. Called once, before any state is loaded.

        Args:
            detector: with any weights, also on the ``meta`` device.
        """

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Surrounds a look at a few training clips that a dry run measures.

        Yields:
            What to multiply the seconds of the look by; None if they grow with the number of clips.
        """
        yield None

    def check_detector(self, detector: ActionDetector) -> None:
        """Refuse a detector that the method cannot act on. Called before a run, with a detector that may be changed.

        Args:
            detector: on the ``meta`` device: its layers and shapes can be looked at, its weights cannot.

        Raises:
            InputError: saying what the detector lacks.
        """
