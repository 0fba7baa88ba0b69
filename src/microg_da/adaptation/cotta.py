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
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import ClipBatch, Prediction


@dataclass
class CoTTAArguments(OnlineTeacherArguments):
    """Settings of :class:`CoTTA`, which steps by Adam, besides those of all online methods with a teacher.

    Attributes:
        restored: share of the student's weights that a step puts back to what was tested.
        views: random views that the teacher's answer is averaged over where the tested detector is unsure.
        tolerance: it is unsure if its entropy on a batch exceeds that on source clips by this share.
        source_batches: how many source batches the entropy on source clips is taken from.
    """

    lr: float = 1e-4
    restored: float = 0.01
    views: int = 8
    tolerance: float = 0.05
    source_batches: int = 16


class CoTTA(OnlineTeacher):
    """A student learns the answers of its own moving average, and some of its weights keep going back.

    The teacher, the moving average of the student, answers; where the detector as it was tested is unsure of a batch,
    the teacher's answer is the mean over random views. The student learns it as soft labels, and after each step a
    random share of its weights is put back. Both normalise by the batch's statistics. The prediction is the teacher's
    answer before the step.

    Deviations: cross-entropies are sums over classes of Bernoulli ones, and the mean over views is that of
    probabilities, not logits. The paper's bound of the largest softmax probability, taken from source confidences, is
    a bound of the entropy here, taken likewise. Eight views of moderate change (15° rolls, mirror images, 10 % zoom,
    40 % colour) stand for the paper's 32.

    Wang et al., "Continual test-time domain adaptation", CVPR 2022.
    """

    Arguments: ClassVar[type] = CoTTAArguments
    arguments: CoTTAArguments
    needs_encoder = "changes the weights of the encoder"
    source_entropy: Tensor

    def __init__(self, arguments: CoTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.restored <= 1:
            raise InputError(
                f"adaptation.test_time_args.restored={arguments.restored} is invalid: expected a number in [0, 1]."
            )
        if arguments.views < 1:
            raise InputError(f"cotta: views={arguments.views} is invalid: expected a whole number of at least 1.")
        self.register_buffer("source_entropy", torch.zeros(()))

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Take the mean entropy of people in source clips.

        Raises:
            InputError: if there are no people in them.
        """
        super().prepare(detector, source, target)
        logits = source_logits("cotta", "the entropy", detector, source, self.arguments.source_batches)
        self.source_entropy.copy_(person_entropy(self.supported(logits)).mean())

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """All parameters that training may change; batch norm on the batch's statistics."""
        parameters = trainable_parameters(detector, "cotta")
        use_batch_statistics([module for module in detector.modules() if isinstance(module, _BatchNorm)])
        return parameters

    def start_test(self, detector: ActionDetector) -> None:
        """Make the teacher and a copy of what is tested."""
        super().start_test(detector)
        self._tested = copy.deepcopy(detector).requires_grad_(False).eval()

    def end_test(self, detector: ActionDetector) -> None:
        """Let go of the copies."""
        super().end_test(detector)
        del self._tested

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """One step of the student, of the teacher, and back."""
        answer = self.answer(batch)
        optimizer.zero_grad()
        said = detect(detector, batch).logits
        torch.autograd.backward(soft_cross_entropy(self.supported(said), self.supported(answer.logits)))
        optimizer.step()
        self.follow(detector)
        self._restore(detector)
        return answer

    @torch.no_grad()
    def answer(self, batch: ClipBatch) -> Prediction:
        """The teacher's answer for ``K ≥ 1`` people."""
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
                back = torch.rand_like(parameter) < self.arguments.restored
                parameter.copy_(torch.where(back, tested, parameter))
