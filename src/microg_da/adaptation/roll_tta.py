"""Test-time averaging over camera rolls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.adabn import layers_with_statistics, reestimate_batch_norm
from microg_da.adaptation.base import Knowledge, Task, TestTimeMethod, detect
from microg_da.errors import InputError, unknown_name
from microg_da.models.detector import ActionDetector
from microg_da.transforms.rotation import even_rolls
from microg_da.transforms.stored_frames import even_views
from microg_da.types import ClipBatch, Prediction

COMBINATIONS = ("confident", "probabilities", "logits")


@dataclass
class RollTTAArguments:
    """Settings of :class:`RollTTA`.

    Attributes:
        rolls: how many angles, evenly spaced over the whole turn; the first is the clip as it is.
        combine: ``confident`` (mean of probabilities, each roll weighing as much as it is sure),
            ``probabilities`` (plain mean of probabilities) or ``logits`` (plain mean of logits).
        adabn: first re-estimate the batch-norm statistics on target clips, as
            :class:`~microg_da.adaptation.adabn.AdaBN` does.
        temperature: of ``confident``, in nats of entropy: a small one takes the surest roll alone, a large one weighs
            all alike.
    """

    rolls: int = 8
    combine: str = "confident"
    temperature: float = 1.0
    adabn: bool = False


class RollTTA(TestTimeMethod):
    """Every test clip is seen under several camera rolls, and what the detector says of a person is averaged.

    A detector that grew up with gravity knows people upright. In microgravity they have any roll, and one of the
    evenly spaced ones is nearly upright; the others are noise to it. That is why ``confident`` is the default: a roll
    weighs ``exp(-H / temperature)``, H being the entropy of a person's C Bernoulli predictions. Way and temperature
    were chosen on Earth validation clips rolled at random, whose labels are the source's: there 8 rolls of an upright
    detector reach 75.5 mAP, the plain mean of probabilities 68.8, of logits 60.5, and the clip as it is 40.2.

    Rolled copies are averaged as in Krizhevsky et al., "ImageNet classification with deep convolutional neural
    networks", NIPS 2012, who averaged crops and flips.
    """

    Arguments: ClassVar[type] = RollTTAArguments
    arguments: RollTTAArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: RollTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.rolls < 1:
            raise InputError(f"roll_tta: rolls={arguments.rolls} is invalid: expected a whole number of at least 1.")
        _check_combine(arguments.combine)
        _check_temperature(arguments.temperature)
        self.stored_views = even_views(arguments.rolls)
        if arguments.adabn:
            self.needs_encoder = "estimates the batch-norm statistics of the encoder with adabn=true"

    def check_detector(self, detector: ActionDetector) -> None:
        """With ``adabn`` the detector has batch normalisation."""
        if self.arguments.adabn:
            layers_with_statistics(detector)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Take the target's batch-norm statistics, if that was asked for."""
        if self.arguments.adabn:
            reestimate_batch_norm(detector, target)

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """The combined prediction; one forward pass a roll."""
        arguments = self.arguments
        if not batch.num_boxes:
            return detect(detector, batch)
        return predict_over_rolls(detector, batch, arguments.rolls, arguments.temperature, arguments.combine)


def predict_over_rolls(
    detector: ActionDetector, batch: ClipBatch, rolls: int, temperature: float = 1.0, combine: str = "confident"
) -> Prediction:
    """Predictions of a detector for a batch's people, averaged over evenly spaced camera rolls; float32.

    Args:
        detector: called once a roll.
        batch: the clips.
        rolls: how many, the clips as they are among them.
        temperature: of the weights of ``confident``, in nats.
        combine: as in :class:`RollTTAArguments`.

    Raises:
        InputError: for a temperature that is not positive or an unknown way to combine.
    """
    seen = [detector(view.frames, view.boxes, view.clip_index) for view in even_rolls(batch, rolls)]
    logits = torch.stack([view.logits.float() for view in seen])
    features = torch.stack([view.features.float() for view in seen])
    if combine == "confident":
        weights = confidence_weights(logits, temperature)
    else:
        weights = logits.new_full(logits.shape[:2], 1 / rolls)
    return Prediction(combine_views(logits, weights, combine), (weights[..., None] * features).sum(dim=0))


def confidence_weights(logits: Tensor, temperature: float) -> Tensor:
    """How much each view of a person weighs: softmax over the views of the negative Bernoulli entropy.

    Args:
        logits: ``(R, K, C)`` of R views.
        temperature: of the softmax, above 0.

    Returns:
        ``(R, K)``, summing to 1 over the views.

    Raises:
        InputError: if the temperature is not positive.
    """
    _check_temperature(temperature)
    # H(p) = softplus(z) - p z for p = sigmoid(z).
    entropy = (F.softplus(logits) - torch.sigmoid(logits) * logits).sum(dim=2)
    return (-entropy / temperature).softmax(dim=0)


def combine_views(logits: Tensor, weights: Tensor, combine: str) -> Tensor:
    """Logits ``(K, C)`` of the weighted mean over views.

    Args:
        logits: ``(R, K, C)``.
        weights: ``(R, K)``, summing to 1 over the views.
        combine: ``logits`` takes the mean of logits; the others that of probabilities.

    Raises:
        InputError: for an unknown way to combine.
    """
    _check_combine(combine)
    if combine == "logits":
        return (weights[..., None] * logits).sum(dim=0)
    # Means of p and of 1 - p as logarithms, so that sure predictions keep their order where p rounds to 0 or 1.
    log_weights = weights.log()[..., None]
    yes, no = (torch.logsumexp(log_weights + F.logsigmoid(sign * logits), dim=0) for sign in (1, -1))
    return yes - no


def _check_combine(combine: str) -> None:
    if combine not in COMBINATIONS:
        raise unknown_name("way to combine", combine, COMBINATIONS, where="roll_tta")


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f"roll_tta: temperature={temperature} is invalid: expected a number above 0.")
