"""The inputs of label-free validators: predictions and features of both domains' validation clips."""

from __future__ import annotations

import hashlib
import inspect
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from microg_da.adaptation.support import support_of_rates
from microg_da.errors import InputError
from microg_da.types import ClipBatch, PersonKey, Prediction


@dataclass(frozen=True)
class Observed:
    """The inputs of validators, without target labels.

    Attributes:
        source_map: mAP on the source validation split, None if source labels were not scored.
        source_logits: ``(K_s, C)``.
        source_features: ``(K_s, D)`` RoI features.
        target_logits: ``(K_t, C)``.
        target_features: ``(K_t, D)``.
        support: ``(C,)`` bool, the classes with labels on the source; None for all. Validators ignore other classes.
        classifier: ``(C, D)`` weights of the detector's linear layer; None if unknown.
        mixed: ``(P, 3, C)`` logits of two target people and of their mixture, see
            :mod:`microg_da.validation.mixing`; None without mixtures.
    """

    source_map: float | None
    source_logits: Tensor
    source_features: Tensor
    target_logits: Tensor
    target_features: Tensor
    support: Tensor | None = None
    classifier: Tensor | None = None
    mixed: Tensor | None = None

    @property
    def supported_classifier(self) -> Tensor | None:
        """``(C', D)`` weights of the classes in :attr:`support`."""
        if self.support is None or self.classifier is None:
            return self.classifier
        return self.classifier[self.support]

    @property
    def supported_source_logits(self) -> Tensor:
        """``(K_s, C')`` logits of the classes in :attr:`support`."""
        return self.source_logits if self.support is None else self.source_logits[:, self.support]

    @property
    def supported_target_logits(self) -> Tensor:
        """``(K_t, C')`` logits of the classes in :attr:`support`."""
        return self.target_logits if self.support is None else self.target_logits[:, self.support]


def check_outside_validator(what: str, found: object) -> None:
    """Check that an object from another package can be called as a validator.

    Args:
        what: beginning of the error message, e.g. ``"validator 'package.module:function'"``.
        found: the object.

    Raises:
        InputError: if the object is not a function of one :class:`Observed`.
    """
    try:
        inspect.signature(found).bind(None)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}: expected a function of one Observed that returns a number, found {found!r}."
        ) from error


class Observations(Metric):
    """Accumulates the predictions of passes over both validation splits, on any number of processes.

    Args:
        num_classes: C, the width of a row of logits.
        feature_dim: D, the width of a RoI feature.
        class_rates: ``(C,)`` the share of labelled source people with each class, for the support; None for all.
    """

    full_state_update = False

    def __init__(self, num_classes: int, feature_dim: int, class_rates: Sequence[float] | None = None) -> None:
        super().__init__()
        self.support = support_of_rates(class_rates, num_classes)
        self.num_classes = num_classes
        self.feature_dim = feature_dim
        for name in ("people", "logits", "features"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch. Labels in the batch are not read."""
        is_target = int(batch.domain == "target")
        rows = [(is_target, *_identity(person)) for person in batch.people]
        people = torch.tensor(rows, dtype=torch.int64).reshape(-1, _COLUMNS)
        added = {
            "people": people.to(prediction.logits.device),
            "logits": prediction.logits,
            "features": prediction.features,
        }
        for name, value in added.items():
            getattr(self, name).append(value.detach() if name == "people" else value.detach().float())

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return people ``(K, 4)``, logits and features of all processes, including repetitions."""
        people, logits, features = (self._joined(name) for name in ("people", "logits", "features"))
        return people, logits, features

    def observed(
        self, source_map: float | None = None, classifier: Tensor | None = None, mixed: Tensor | None = None
    ) -> Observed:
        """Return the observations without people that a distributed sampler repeated.

        Args:
            source_map: see :class:`Observed`.
            classifier: see :class:`Observed`.
            mixed: see :class:`Observed`.
        """
        # torchmetrics squeezes tensors with one element.
        people, logits, features = self.compute()
        people, logits = people.reshape(-1, _COLUMNS).cpu(), logits.reshape(-1, self.num_classes).cpu()
        features = features.reshape(-1, self.feature_dim).cpu()
        once, group = torch.unique(people, dim=0, return_inverse=True)
        first = torch.full((len(once),), len(group)).scatter_reduce(0, group, torch.arange(len(group)), "amin")
        is_target = once[:, 0] == 1
        # The order of digests is arbitrary, so people keep the order of the pass.
        source, target = (first[chosen].sort().values for chosen in (~is_target, is_target))
        return Observed(
            source_map,
            source_logits=logits[source],
            source_features=features[source],
            target_logits=logits[target],
            target_features=features[target],
            support=torch.tensor(self.support),
            classifier=None if classifier is None else classifier.detach().float().cpu(),
            mixed=mixed,
        )

    def _joined(self, name: str) -> Tensor:
        parts = getattr(self, name)
        if isinstance(parts, list) and not parts:
            return torch.zeros(0, dtype=torch.int64 if name == "people" else torch.float32)
        return dim_zero_cat(parts)


_COLUMNS = 4
"""Width of the identity of a person: domain, two numbers for the keyframe, and index in the keyframe's table."""


def _identity(person: PersonKey) -> tuple[int, int, int]:
    """Return three int64 that identify a person in every process.

    Processes exchange tensors, not names, and share no table of keyframes. A digest of 128 bits needs no table: the
    probability that two of a billion keyframes have the same digest is below 10⁻²⁰.
    """
    name = f"{person.keyframe.video_id}@{person.keyframe.frame_stamp}"
    high, low = struct.unpack("<qq", hashlib.blake2b(name.encode(), digest_size=16).digest())
    return high, low, person.place
