"""Continual test-time adaptation."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.memo import trainable_parameters
from microg_da.adaptation.online import person_entropy, source_logits, use_batch_statistics
from microg_da.adaptation.online_teacher import OnlineTeacher, OnlineTeacherArguments, soft_cross_entropy
from microg_da.adaptation.roll_tta import combine_views
from microg_da.errors import InputError, check_count
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch, Prediction


@dataclass
class CoTTAArguments(OnlineTeacherArguments):
    """Settings of :class:`CoTTA`, which steps by Adam, besides those of all online methods with a teacher.

    Attributes:
        restore_probability: fraction of the student's weights that each step resets to their initial values.
        views: number of random views over which the teacher is averaged if the initial detector is uncertain.
        tolerance: relative excess of a batch's entropy over that of source clips above which it is uncertain.
        source_batches: number of source batches from which the entropy on source clips is computed.
    """

    lr: float = 1e-4
    restore_probability: float = 0.01
    views: int = 8
    tolerance: float = 0.05
    source_batches: int = 16


class CoTTA(OnlineTeacher):
    """Trains a student on the predictions of its moving average, and restores random weights.

    The teacher is the moving average of the student. If the initial detector is uncertain about a batch, the prediction
    of the teacher is averaged over random views. The student learns it as soft labels. After each step a random
    fraction of the student's weights is restored. Both networks normalise with the statistics of the batch. The result
    is the prediction of the teacher before the step.

    Deviations: cross-entropies are sums of Bernoulli cross-entropies over classes, and views are averaged as
    probabilities, not logits. The paper bounds the largest softmax probability by source confidences; here the entropy
    is bounded in the same way. Eight moderate views (15° rolls, flips, 10 % zoom, 40 % colour) replace the paper's 32.

    Wang et al., "Continual test-time domain adaptation", CVPR 2022.
    """

    Arguments: ClassVar[type] = CoTTAArguments
    arguments: CoTTAArguments
    needs_encoder = "changes the weights of the encoder"
    source_entropy: Tensor

    def __init__(self, arguments: CoTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.restore_probability <= 1:
            raise InputError(
                f"adaptation.test_time_args.restore_probability={arguments.restore_probability} is invalid: expected a "
                "number in [0, 1]."
            )
        check_count("adaptation.test_time_args.views", arguments.views)
        self.register_buffer("source_entropy", torch.zeros(()))

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Compute the mean entropy of people in source clips.

        Raises:
            InputError: if the source clips contain no people.
        """
        super().prepare(detector, source, target)
        logits = source_logits("cotta", "the entropy", detector, source, self.arguments.source_batches)
        self.source_entropy.copy_(person_entropy(self.supported(logits)).mean())

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return all trainable parameters, and switch batch normalisation to the statistics of the batch."""
        parameters = trainable_parameters(detector, "cotta")
        use_batch_statistics([module for module in detector.modules() if isinstance(module, _BatchNorm)])
        return parameters

    def start_test(self, detector: ActionDetector) -> None:
        """Make the teacher and a copy of what is tested."""
        super().start_test(detector)
        self._tested = copy.deepcopy(detector).requires_grad_(False).eval()

    def end_test(self, detector: ActionDetector) -> None:
        """Delete the copies."""
        super().end_test(detector)
        del self._tested

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """Take one step of the student, update the teacher, and restore random weights."""
        answer = self.answer(batch)
        optimizer.zero_grad()
        predicted = detect(detector, batch).logits
        torch.autograd.backward(soft_cross_entropy(self.supported(predicted), self.supported(answer.logits)))
        optimizer.step()
        self.follow(detector)
        self._restore(detector)
        return answer

    @torch.no_grad()
    def answer(self, batch: ClipBatch) -> Prediction:
        """Return the teacher's prediction for ``K ≥ 1`` people."""
        sure = person_entropy(self.supported(detect(self._tested, batch).logits)).mean()
        prediction = detect(self._teacher, batch)
        if sure <= (1 + self.arguments.tolerance) * self.source_entropy:
            return prediction
        views = [augment_batch(batch, self.view) for _ in range(self.arguments.views)]
        logits = torch.stack([detect(self._teacher, view).logits.float() for view in views])
        weights = logits.new_full(logits.shape[:2], 1 / len(views))
        return Prediction(combine_views(logits, weights, "probabilities"), prediction.features)

    @torch.no_grad()
    def _restore(self, detector: ActionDetector) -> None:
        for parameter, tested in zip(detector.parameters(), self._tested.parameters(), strict=True):
            if parameter.requires_grad:
                back = torch.rand_like(parameter) < self.arguments.restore_probability
                parameter.copy_(torch.where(back, tested, parameter))
