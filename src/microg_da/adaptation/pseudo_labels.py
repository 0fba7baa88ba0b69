"""Multi-label pseudo-labels: selects the entries of a teacher's predictions that become labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.errors import InputError


@dataclass
class PseudoLabelArguments:
    """Settings of methods with pseudo-labels of a teacher.

    Attributes:
        weight: weight of the loss with pseudo-labels after the ramp-up.
        ramp_up: fraction of the stage over which the weight rises.
        decay: decay of the moving average that is the teacher. The mean age of its weights is about ``1 / (1 - decay)``
            steps. The default is the value of Tarvainen & Valpola for the start of training. Their later value, 0.999,
            is for stages of many thousands of steps. In a stage of 200 to 600 steps it would give the source model more
            than half the weight of the newest model, and labels would lag behind by half of the stage.
        keep: the network that is validated and kept, ``student`` or ``teacher``.
        positive: see :class:`ClassThresholds`.
        negative: likewise.
        memory: likewise.
    """

    weight: float = 1.0
    ramp_up: float = 0.3
    decay: float = 0.99
    keep: str = "student"
    positive: float = 0.5
    negative: float = 2.0
    memory: int = 1024


class PseudoLabels(NamedTuple):
    """Labels of ``K`` people with a mask of trusted entries.

    Attributes:
        labels: ``(K, C)`` in {0, 1}.
        trusted: ``(K, C)`` in {0, 1}; entries with 0 are excluded from losses.
    """

    labels: Tensor
    trusted: Tensor


class ClassThresholds(nn.Module):
    """Two thresholds for each class, such that pseudo-labels have the label rates of the source domain.

    For a class with the rate π among source people, the fraction ``positive`` · π of target people with the highest
    probabilities is labelled positive, and all people below the top ``negative`` · π are labelled negative. People in
    between get no label. Rates are computed over all source people so far, ranks among the latest target people.
    Classes that the teacher predicts too rarely therefore have lower thresholds than classes that it predicts too
    often.

    Xie et al., "Class-distribution-aware pseudo-labeling for semi-supervised multi-label learning", NeurIPS 2023.

    Args:
        num_classes: C.
        positive: fraction of the expected positives that are labelled positive, at most 1.
        negative: multiple of the expected positives beyond which people are labelled negative, at least 1.
        memory: number of latest target people for the ranks.

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
        """Update the rates and ranks with the people of a step, and label its target people.

        Args:
            probabilities: ``(K_t, C)`` probabilities of target people.
            source_labels: ``(K_s, C)`` labels of source people.
            support: ``(C,)`` bool, the classes whose entries may be trusted; None for all.
        """
        self.people += len(source_labels)
        self.positives += source_labels.sum(dim=0)
        self._remember(probabilities.float())
        rates = self.positives / self.people.clamp(min=1)
        known = self.memory[: int(self.met)]
        pseudo = label_by_rate(probabilities.float(), known, self.positive * rates, self.negative * rates)
        return pseudo if support is None else PseudoLabels(pseudo.labels * support, pseudo.trusted * support)

    def _remember(self, probabilities: Tensor) -> None:
        """Replace the oldest entries."""
        size = len(self.memory)
        newest = probabilities[-size:]
        places = (self.met + len(probabilities) - len(newest) + torch.arange(len(newest), device=newest.device)) % size
        self.memory[places] = newest
        self.met += len(probabilities)


def label_by_rate(probabilities: Tensor, known: Tensor, positive: Tensor, negative: Tensor) -> PseudoLabels:
    """Label people by their rank among known people, for each class.

    Args:
        probabilities: ``(K, C)`` of the people to label.
        known: ``(N, C)`` probabilities of the people among whom they are ranked.
        positive: ``(C,)`` fraction of people with a positive label; rounded down to whole people.
        negative: ``(C,)`` fraction of people without a negative label; rounded up to whole people.
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
    """Return the float32 binary cross-entropy with trusted pseudo-labels; 0 with zero gradient without people.

    Entries that are not trusted count as 0 in the mean over people and classes, so that steps with few trusted entries
    have little weight.

    Args:
        logits: ``(K, C)``.
        pseudo: labels of the same people.
    """
    if logits.numel() == 0:
        return logits.float().sum()
    return F.binary_cross_entropy_with_logits(logits.float(), pseudo.labels, weight=pseudo.trusted)
