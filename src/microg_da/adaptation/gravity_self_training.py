"""Self-training in the gravity frame: in rounds, up is estimated, the world is turned, and people are learnt there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import split_prediction
from microg_da.adaptation.gravity_frame import Found, UpFinder, UpSettings
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.self_training import match_rates
from microg_da.adaptation.teacher import TeacherMethod
from microg_da.data.clips import ClipBatch, ClipKey, concatenate_batches
from microg_da.models.detector import ActionDetector, Prediction


@dataclass
class GravitySelfTrainingArguments(UpSettings):
    """Settings of :class:`GravitySelfTraining`, besides those of the estimate of up.

    Attributes:
        weight: of the loss on target people.
        every: epochs between rounds, the first before the first epoch.
        decay: of the moving average of weights that labels, is validated and is handed over.
    """

    weight: float = 1.0
    every: int = 2
    decay: float = 0.98


@dataclass
class Belief:
    """What a round believes of the people of one clip.

    Attributes:
        degrees: ``(K,)`` each one's up.
        labels: ``(K, C)`` in [0, 1].
    """

    degrees: Tensor
    labels: Tensor


class GravitySelfTraining(TeacherMethod):
    """Expectation and maximisation between angles and actions, on clips that are turned until people are upright.

    At the beginning of a round a teacher, the moving average of the detector's weights, looks at each target clip under
    the few rolls that an estimator of up finds likely. Where it is surest is up, and what it says there, shifted to the
    class rates of the source, are the labels. In the epochs after it the detector learns from source clips and from
    target clips turned by these angles, which ``adaptation.rotation`` jitters. A better detector tells up from down
    better, so that the next round has better angles and better labels.

    The detector never has to know people at every roll. At test time it needs
    :class:`~microg_da.adaptation.gravity_frame.GravityFrame`, which takes the estimator over.

    Labels and their rates are those of :class:`~microg_da.adaptation.self_training.SelfTraining`. That a mean teacher
    works better in a canonical orientation is Astro-Pose's finding for the pose of astronauts.
    """

    Arguments: ClassVar[type] = GravitySelfTrainingArguments

    def __init__(self, arguments: GravitySelfTrainingArguments, **task: Any) -> None:
        super().__init__(arguments, **task)
        self.finder = UpFinder(arguments)
        self._beliefs = Beliefs()

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Train the estimator of up, and make the source model the first teacher."""
        super().before_training(detector, source, target)
        if not self.finder.trained:
            self.finder.learn(source, target)

    @torch.no_grad()
    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Begin a round: estimate up and label everybody, by the teacher."""
        if epoch % self.arguments.every:
            return
        assert self.teacher is not None
        found: list[tuple[ClipBatch, Found]] = [
            (batch, self.finder.find(self.teacher.network, batch)) for batch in target
        ]
        everybody = [part.prediction.logits for _, part in found]
        logits = torch.cat(everybody) if everybody else torch.zeros(0, self.num_classes)
        labels = logits.sigmoid() if self.class_rates is None else match_rates(logits, self.class_rates)
        self._beliefs = Beliefs()
        for (batch, part), of_batch in zip(found, labels.split([len(part) for part in everybody]), strict=True):
            self._beliefs.keep(batch, part.degrees, of_batch)

    def turns(self, target: ClipBatch) -> Tensor:
        """Degrees ``(B,)`` that turn each clip upright: the opposite of the up of its first person."""
        return self._beliefs.clip_turns(target)

    def training_losses(
        self, detector: ActionDetector, source: ClipBatch | None, target: ClipBatch | None, progress: float
    ) -> dict[str, Tensor]:
        """The supervised loss of the source, and that of the turned target with its labels of this round."""
        assert source is not None
        assert source.labels is not None
        assert target is not None
        labels = self._beliefs.labels(target)
        both = concatenate_batches(source, target)
        prediction = detector(both.frames, both.boxes, both.clip_index)
        of_source, of_target = split_prediction(prediction, source.num_boxes)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pseudo_label": self.arguments.weight * multilabel_bce(of_target.logits, labels),
        }
