"""The base of training methods and test-time methods: arguments, task, and supported classes."""

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
"""Weighted losses by name; their sum is minimised."""

Knowledge = Literal["rolls", "class_rates"]
"""Prior knowledge of the domain shift: that cameras roll, or that class rates equal those of the source."""


@dataclass
class NoArguments:
    """The arguments of a method without settings."""


@dataclass(frozen=True)
class Task:
    """Facts about the detector and the labels that a method receives.

    Attributes:
        feature_dim: D, the dimension of RoI features.
        num_classes: C, the number of classes.
        class_groups: ``(C,)`` the group of each class (movement, object manipulation, person interaction) as an index.
        class_rates: ``(C,)`` the fraction of source training people with each class; None if unknown.
    """

    feature_dim: int
    num_classes: int
    class_groups: tuple[int, ...]
    class_rates: tuple[float, ...] | None = None

    @property
    def support(self) -> tuple[bool, ...]:
        """``(C,)`` whether any labelled source person has the class; True for all classes if labels are unknown."""
        return support_of_rates(self.class_rates, self.num_classes)


class Method(nn.Module):
    """Base class of training methods and test-time methods.

    Args:
        arguments: an instance of the class's ``Arguments``.
        task: facts about the detector and the labels.

    Attributes:
        Arguments: dataclass of the settings, filled from ``adaptation.args``.
        arguments: the instance of ``Arguments``; a subclass that reads it annotates its type.
        uses_target_labels: whether the method reads target labels. Such a method is an oracle.
        knowledge: prior knowledge of the shift that the method uses, shown in tables.
        needs_encoder: why the method needs the encoder and not only its feature maps, as a predicate for the name of
            the method; None if maps under ``stored_views`` suffice. A method that needs the encoder cannot read a
            feature store.
        stored_views: the rolls and flips that the method needs: a test-time method for clips in :meth:`prepare` and
            :meth:`predict`, a training method for target clips without augmentation.
        support: ``(C,)`` bool, the classes in losses and pseudo-labels of the target; see
            :mod:`microg_da.adaptation.support`. A source-free method sets it from the predictions of the source model,
            in :meth:`find_support`.
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
        """Return :attr:`knowledge`; a method that contains another method may add to it.

        Args:
            arguments: the values of ``adaptation.args``.
        """
        return cls.knowledge

    def supported(self, values: Tensor) -> Tensor:
        """Select the columns of the classes in :attr:`support`: ``(…, C')`` from ``(…, C)``, with C' ≥ 1."""
        return values[..., self.support]

    def find_support(self, probabilities: Tensor) -> None:
        """Set :attr:`support` from the source model's probabilities ``(N, C)``, for a source-free method.

        The support of the method's companion is set as well.
        """
        found = support_of_predictions(probabilities)
        for part in self.modules():
            if isinstance(part, Method):
                part.support.copy_(found)

    def built_for(self, detector: ActionDetector) -> None:
        """Add the layers that depend on the detector's architecture. Called once, before any state is loaded.

        Args:
            detector: the detector, with any weights, or on the ``meta`` device.
        """

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Context of the pass over a few training clips that a dry run measures.

        Yields:
            The factor for the measured seconds; None if the time is proportional to the number of clips.
        """
        yield None

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the method supports a detector. Called before a run, with a detector that may be modified.

        Args:
            detector: the detector on the ``meta`` device, with layers and shapes but without weights.

        Raises:
            InputError: if the detector lacks what the method needs.
        """
