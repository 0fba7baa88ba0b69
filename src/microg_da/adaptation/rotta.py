"""Robust test-time adaptation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from microg_da.adaptation.balanced_memory import BalancedMemory, Kept
from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.adaptation.online import affine_parameters, batch_norm_layers, person_entropy, source_logits
from microg_da.adaptation.online_teacher import OnlineTeacher, OnlineTeacherArguments, soft_cross_entropy
from microg_da.adaptation.robust_norm import robust_statistics
from microg_da.data.batches import concatenate_batches
from microg_da.errors import InputError, check_count
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch, Prediction

CERTAIN = 1e-6
"""Minimum distance of class rates from 0 and 1."""


@dataclass
class RoTTAArguments(OnlineTeacherArguments):
    """Settings of :class:`RoTTA`, which uses Adam, in addition to those of all online methods with a teacher.

    Attributes:
        memory: maximum number of people in the memory.
        update_interval: people between steps.
        momentum: weight of a batch in the statistics of batch normalisation.
        timeliness: weight of age in the selection of people to remove from the memory.
        unsureness: weight of uncertainty in this selection.
        source_batches: number of source batches for the class rates.
    """

    memory: int = 64
    update_interval: int = 16
    momentum: float = 0.05
    timeliness: float = 1.0
    unsureness: float = 1.0
    source_batches: int = 16


class RoTTA(OnlineTeacher):
    """Trains a student on a category-balanced memory of test people, with a teacher's predictions weighted by age.

    The teacher is the moving average of the student, and its predictions are the result. Each predicted person is
    offered to a :class:`~microg_da.adaptation.balanced_memory.BalancedMemory`. Every few people, the student is
    trained with the teacher's probabilities for the people in the memory, on a random view. A person of age ``A``, in
    multiples of the memory, has the weight ``exp(-A) / (1 + exp(-A))``. Both networks normalise by statistics that
    move slowly towards those of the memory (:func:`~microg_da.adaptation.robust_norm.robust_statistics`). Scales and
    shifts of batch normalisation are trained.

    A person may have several classes. The *category* of a person is the class in the support with the largest
    difference between its log-odds and those of the class rate that the detector predicts on source clips. Without the
    rates, the commonest class would be the category of nearly all people. For equal rates the category is the most
    probable class, as in the paper.

    Deviations:

    - Cross-entropies and entropies are sums over Bernoulli classes in the support. Uncertainty is the entropy divided
    by
      the entropy of the class rates, where the paper divides by the logarithm of the number of classes.
    - Each person is stored with a separate copy of the clip. Clips of different sizes need separate passes.
    - There is a step every 16 people, in the paper every 64, because a test has hundreds of people, not tens of
      thousands.
    - Random views have moderate changes (15° rolls, mirroring, 10 % zoom, 40 % colour), and dropout is disabled.

    Yuan et al., "Robust test-time adaptation in dynamic scenarios", CVPR 2023.
    """

    Arguments: ClassVar[type] = RoTTAArguments
    arguments: RoTTAArguments
    rates: Tensor

    def __init__(self, arguments: RoTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        for name in ("memory", "update_interval"):
            check_count(f"adaptation.test_time_args.{name}", getattr(arguments, name))
        if not 0 <= arguments.momentum <= 1:
            raise InputError(
                f"adaptation.test_time_args.momentum={arguments.momentum} is invalid: expected a number in [0, 1]."
            )
        self.register_buffer("rates", torch.full((task.num_classes,), 0.5))

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Estimate the class rates on source clips.

        Raises:
            InputError: if the clips have no people.
        """
        super().prepare(detector, source, target)
        logits = source_logits("rotta", "class rates", detector, source, self.arguments.source_batches)
        self.rates.copy_(logits.sigmoid().mean(dim=0))

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return scales and shifts of all batch-norm layers, and set the detector to evaluation mode."""
        detector.eval()
        return affine_parameters(batch_norm_layers(detector, "rotta"))

    def forget(self) -> None:
        """Reset the teacher and the memory."""
        super().forget()
        arguments = self.arguments
        self._memory: BalancedMemory[ClipBatch] = BalancedMemory(
            arguments.memory, int(self.support.sum()), arguments.timeliness, arguments.unsureness
        )
        self._met = 0

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """Return the teacher's prediction, offer people to the memory, and take a step after every few people."""
        with torch.no_grad():
            answer = detect(self._teacher, batch)
        logits = self.supported(answer.logits.float())
        usual = torch.logit(self.supported(self.rates), eps=CERTAIN)
        categories = categories_of(logits, usual).tolist()
        unsure = (person_entropy(logits) / bernoulli_entropy(usual).sum()).tolist()
        for index, (category, uncertainty) in enumerate(zip(categories, unsure, strict=True)):
            self._memory.add(one_person(batch, index), category, uncertainty)
            self._met += 1
            if self._met % self.arguments.update_interval == 0:
                self._step(detector, optimizer)
        return answer

    def _step(self, detector: ActionDetector, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        kept = self._memory.kept
        networks = (self._teacher, detector)
        layers = [layer for network in networks for layer in batch_norm_layers(network, "rotta")]
        with robust_statistics(layers, self.arguments.momentum):
            for part in same_size(kept):
                torch.autograd.backward(self._loss(detector, part) * len(part) / len(kept))
        optimizer.step()
        self.follow(detector)

    def _loss(self, detector: ActionDetector, kept: Sequence[Kept[ClipBatch]]) -> Tensor:
        clips = concatenate_batches(*(one.item for one in kept))
        with torch.no_grad():
            answer = detect(self._teacher, clips).logits
        predicted = detect(detector, augment_batch(clips, self.view)).logits
        ages = torch.tensor([one.age for one in kept], dtype=torch.float32, device=predicted.device)
        weights = timeliness(ages / self.arguments.memory)
        return soft_cross_entropy(self.supported(predicted), self.supported(answer), weights)


def categories_of(logits: Tensor, usual: Tensor) -> Tensor:
    """Return ``(K,)`` the class of each person with the largest logit relative to the class rate.

    Args:
        logits: ``(K, C)``.
        usual: ``(C,)`` log-odds of the class rates.
    """
    return (logits - usual).argmax(dim=1)


def timeliness(ages: Tensor) -> Tensor:
    """Return weights ``exp(-A) / (1 + exp(-A))`` of ages in multiples of the memory, with a maximum of 1/2."""
    return torch.sigmoid(-ages)


def one_person(batch: ClipBatch, index: int) -> ClipBatch:
    """Return a copy of the clip of one person, without the other people."""
    clip = int(batch.clip_index[index])
    part = batch.without_labels().take_people(torch.tensor([index], device=batch.boxes.device))
    frames = batch.frames[clip : clip + 1].clone()
    return replace(part, frames=frames, clip_index=torch.zeros_like(part.clip_index), keys=(batch.keys[clip],))


def same_size(kept: Sequence[Kept[ClipBatch]]) -> list[list[Kept[ClipBatch]]]:
    """Group stored people by the size of their frames."""
    found: dict[tuple[int, ...], list[Kept[ClipBatch]]] = {}
    for one in kept:
        found.setdefault(tuple(one.item.frames.shape), []).append(one)
    return list(found.values())
