"""Pseudo-labels of multi-label people: selection of the entries of a teacher's predictions that become labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.errors import InputError


@dataclass
class PseudoLabelArguments:
    """Settings that methods have which learn from a teacher's pseudo-labels.

    Attributes:
        weight: of the loss with pseudo-labels, once it has ramped up.
        ramp_up: part of the stage over which the weight rises.
        decay: of the teacher's moving average, whose models are on average about ``1 / (1 - decay)`` steps old. The
            default is that of Tarvainen & Valpola for the steep part of training. Their 0.999 for later steps is for
            stages of many thousands. In one of 200 to 600 steps, such an average gives the source model more than half
            the weight of the newest one, and its labels are those of a model from the middle of the stage.
        hand_over: the network that is validated and handed over, ``student`` or ``teacher``.
        positive: see :class:`ClassThresholds`.
        negative: likewise.
        memory: likewise.
    """

    weight: float = 1.0
    ramp_up: float = 0.3
    decay: float = 0.99
    hand_over: str = "student"
    positive: float = 0.5
    negative: float = 2.0
    memory: int = 1024


class PseudoLabels(NamedTuple):
    """Labels for ``K`` people, of which some entries are trusted.

    Attributes:
        labels: ``(K, C)`` in {0, 1}.
        trusted: ``(K, C)`` in {0, 1}; entries of 0 are left out of a loss.
    """

    labels: Tensor
    trusted: Tensor


class ClassThresholds(nn.Module):
    """Two thresholds a class, so that pseudo-labels have the label rates of the source domain.

    A class that a fraction π of source people carries is given to the ``positive`` · π of target people with the
    highest probabilities, and denied to those below the ``negative`` · π highest; between them no label is set. Rates
    are those of all source people met so far, ranks those among the target people met last. So a class that
    the teacher seldom dares to name, as a rare one, has a lower threshold than one it names too often.

    Xie et al., "Class-distribution-aware pseudo-labeling for semi-supervised multi-label learning", NeurIPS 2023.

    Args:
        num_classes: C.
        positive: share of the expected positives that are labelled so, at most 1.
        negative: multiple of the expected positives beyond which people are labelled negative, at least 1.
        memory: how many target people the ranks are taken among.

    Raises:
        InputError: if a value is out of range.
    """

    people: Tensor
    positives: Tensor
    memory: Tensor
    met: Tensor

    def __init__(self, num_classes: int, positive: float = 0.5, negative: float = 2.0, memory: int = 1024) -> None:
        super().__init__()
        if not (0 < positive <= 1 <= negative and memory >= 1):
            raise InputError(
                f"positive={positive}, negative={negative}, memory={memory} of pseudo-labels are invalid: expected "
                "0 < positive <= 1 <= negative and memory >= 1."
            )
        self.positive = positive
        self.negative = negative
        self.register_buffer("people", torch.zeros(()))
        self.register_buffer("positives", torch.zeros(num_classes))
        self.register_buffer("memory", torch.zeros(memory, num_classes))
        self.register_buffer("met", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def expect(self, probabilities: Tensor) -> None:
        """Take the class rates of what a model says of people ``(N, C)``, where there are no labels."""
        self.people.fill_(len(probabilities))
        self.positives.copy_(probabilities.sum(dim=0))

    @torch.no_grad()
    def label(self, probabilities: Tensor, source_labels: Tensor, support: Tensor | None = None) -> PseudoLabels:
        """Learn from a step's people, and label those of the target.

        Args:
            probabilities: ``(K_t, C)`` of target people.
            source_labels: ``(K_s, C)`` of source people.
            support: ``(C,)`` bool, the classes of which entries are trusted at all; None for all.
        """
        self.people += len(source_labels)
        self.positives += source_labels.sum(dim=0)
        self._remember(probabilities.float())
        rates = self.positives / self.people.clamp(min=1)
        known = self.memory[: int(self.met)]
        pseudo = label_by_rate(probabilities.float(), known, self.positive * rates, self.negative * rates)
        return pseudo if support is None else PseudoLabels(pseudo.labels * support, pseudo.trusted * support)

    def _remember(self, probabilities: Tensor) -> None:
        """Write over those met longest ago."""
        size = len(self.memory)
        newest = probabilities[-size:]
        places = (self.met + len(probabilities) - len(newest) + torch.arange(len(newest), device=newest.device)) % size
        self.memory[places] = newest
        self.met += len(probabilities)


def label_by_rate(probabilities: Tensor, known: Tensor, positive: Tensor, negative: Tensor) -> PseudoLabels:
    """Label people by their rank among known ones, class by class.

    Args:
        probabilities: ``(K, C)`` of the people to label.
        known: ``(N, C)`` of those they are ranked among.
        positive: ``(C,)`` share of people above whom a probability means yes; rounded down to whole people.
        negative: ``(C,)`` share of people below whom a probability means no; rounded up.
    """
    if not len(known):
        return PseudoLabels(torch.zeros_like(probabilities), torch.zeros_like(probabilities))
    ranked = known.sort(dim=0, descending=True).values
    last = len(known) - 1
    above, below = (
        ranked.gather(0, count.long().clamp(max=last)[None])
        for count in ((positive * len(known)).floor(), (negative * len(known)).ceil())
    )
    labels = (probabilities > above).float()
    return PseudoLabels(labels, torch.maximum(labels, (probabilities < below).float()))


def trusted_bce(logits: Tensor, pseudo: PseudoLabels) -> Tensor:
    """Binary cross-entropy with trusted pseudo-labels, in float32; 0 (with a gradient of 0) without people.

    Entries that are not trusted count as 0 in the mean over people and classes, so that a step that trusts little
    weighs little.

    Args:
        logits: ``(K, C)``.
        pseudo: labels of the same people.
    """
    if logits.numel() == 0:
        return logits.float().sum()
    return F.binary_cross_entropy_with_logits(logits.float(), pseudo.labels, weight=pseudo.trusted)
