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
from microg_da.errors import InputError, check_count, unknown_name
from microg_da.models.detector import ActionDetector
from microg_da.transforms.rotation import even_rolls
from microg_da.transforms.stored_frames import even_views
from microg_da.types import ClipBatch, Prediction

COMBINATIONS = ("confident", "probabilities", "logits")


@dataclass
class RollTTAArguments:
    """Settings of :class:`RollTTA`.

    Attributes:
        rolls: number of angles, evenly spaced over 360° from 0.
        combine: ``confident`` (mean of probabilities weighted by confidence), ``probabilities`` (mean of probabilities)
            or ``logits`` (mean of logits).
        adabn: whether to first recompute the batch-norm statistics on target clips, as in
            :class:`~microg_da.adaptation.adabn.AdaBN`.
        temperature: temperature of ``confident``, in nats of entropy. A small value selects the most confident roll; a
            large value weights all rolls equally.
    """

    rolls: int = 8
    combine: str = "confident"
    temperature: float = 1.0
    adabn: bool = False


class RollTTA(TestTimeMethod):
    """Averages the predictions for each person over several camera rolls of a test clip.

    A detector trained on Earth expects upright people. In microgravity people have any roll: one of the evenly spaced
    rolls shows a person nearly upright, and the predictions under the others are unreliable. The default ``confident``
    therefore weights a roll by ``exp(-H / temperature)``, where H is the entropy of a person's C Bernoulli predictions.
    The default combination and temperature were chosen on randomly rolled Earth validation clips. There an upright
    detector has 75.5 mAP with 8 rolls, 68.8 with the mean of probabilities, 60.5 with the mean of logits, and 40.2
    without rolls.

    Rolled copies are averaged as in Krizhevsky et al., "ImageNet classification with deep convolutional neural
    networks", NIPS 2012, who averaged crops and flips.
    """

    Arguments: ClassVar[type] = RollTTAArguments
    arguments: RollTTAArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: RollTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        check_count("roll_tta: rolls", arguments.rolls)
        _check_combine(arguments.combine)
        _check_temperature(arguments.temperature)
        self.stored_views = even_views(arguments.rolls)
        if arguments.adabn:
            self.needs_encoder = "estimates the batch-norm statistics of the encoder with adabn=true"

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the detector has batch normalisation if ``adabn`` is set."""
        if self.arguments.adabn:
            layers_with_statistics(detector)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Recompute the batch-norm statistics on the target if ``adabn`` is set."""
        if self.arguments.adabn:
            reestimate_batch_norm(detector, target)

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Return the combined prediction, with one forward pass per roll."""
        arguments = self.arguments
        if not batch.num_boxes:
            return detect(detector, batch)
        return predict_over_rolls(detector, batch, arguments.rolls, arguments.temperature, arguments.combine)


def predict_over_rolls(
    detector: ActionDetector, batch: ClipBatch, rolls: int, temperature: float = 1.0, combine: str = "confident"
) -> Prediction:
    """Return float32 predictions for the people of a batch, averaged over evenly spaced camera rolls.

    Args:
        detector: the detector, called once per roll.
        batch: the clips.
        rolls: number of rolls, including 0°.
        temperature: temperature of the weights of ``confident``, in nats.
        combine: as in :class:`RollTTAArguments`.

    Raises:
        InputError: for a temperature that is not positive or an unknown combination.
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
    """Return the weight of each view of a person: the softmax over views of the negative Bernoulli entropy.

    Args:
        logits: ``(R, K, C)`` of R views.
        temperature: temperature of the softmax, above 0.

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
    """Return logits ``(K, C)`` of the weighted mean over views.

    Args:
        logits: ``(R, K, C)``.
        weights: ``(R, K)``, summing to 1 over the views.
        combine: ``logits`` averages logits; the other values average probabilities.

    Raises:
        InputError: for an unknown combination.
    """
    _check_combine(combine)
    if combine == "logits":
        return (weights[..., None] * logits).sum(dim=0)
    # The logarithms of the means of p and 1 - p keep the order of confident predictions, for which p rounds to 0 or 1.
    log_weights = weights.log()[..., None]
    yes, no = (torch.logsumexp(log_weights + F.logsigmoid(sign * logits), dim=0) for sign in (1, -1))
    return yes - no


def _check_combine(combine: str) -> None:
    if combine not in COMBINATIONS:
        raise unknown_name("combination", combine, COMBINATIONS, where="roll_tta")


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f"roll_tta: temperature={temperature} is invalid: expected a number above 0.")
