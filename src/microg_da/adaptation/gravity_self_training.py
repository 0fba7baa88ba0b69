"""Self-training in the gravity frame: each round estimates up, and training rotates target clips accordingly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Knowledge, Losses, Task, forward_both
from microg_da.adaptation.gravity_frame import GravityFrame, GravityFrameArguments
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.round import Round, RoundState
from microg_da.adaptation.scenes import change_scenes
from microg_da.adaptation.self_training import at_source_rates
from microg_da.adaptation.teacher import TeacherMethod, ramp_up
from microg_da.adaptation.up_method import upright_turns
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class GravitySelfTrainingArguments(GravityFrameArguments):
    """Settings of :class:`GravitySelfTraining`, besides those of the estimate of up.

    Attributes:
        weight: of the loss on target people.
        ramp_up: share of the stage over which this weight rises from 0. The labels of the first round are those of the
            source model.
        every: epochs between rounds, the first before the first epoch.
        decay: of the moving average of weights that labels.
        hand_over: the network that is validated and handed over, ``teacher`` or ``student``.
        scenes: probability that a source clip's people are shown in front of a target clip, see
            :func:`~microg_da.adaptation.scenes.change_scenes`. It helps where the target's places differ from the
            source's, and it takes away places that the source and the target have in common.
    """

    weight: float = 1.0
    ramp_up: float = 0.0
    every: int = 2
    decay: float = 0.95
    hand_over: str = "teacher"
    scenes: float = 0.0


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
    arguments: GravitySelfTrainingArguments
    needs_encoder = "estimates up from pixels and rolls clips by any angle"

    has_companion: ClassVar[bool] = True
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls", "class_rates"})

    def __init__(self, arguments: GravitySelfTrainingArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.frame = GravityFrame(arguments, task)
        self.beliefs = self._nobody()

    @property
    def companion(self) -> GravityFrame:
        """The detector is tested in the frame that it was trained in, with the same estimator of up."""
        return self.frame

    def built_for(self, detector: ActionDetector) -> None:
        """As :meth:`GravityFrame.built_for`."""
        self.frame.built_for(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """As :meth:`GravityFrame.rehearsing`."""
        with self.frame.rehearsing() as factor:
            yield factor

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Train the estimator of up, and make the source model the first teacher."""
        super().before_training(detector, source, target)
        self.frame.prepare(detector, source, target)

    @torch.no_grad()
    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Begin a round: estimate up and label all people, by the teacher."""
        if epoch % self.arguments.every:
            return

        def look(batch: ClipBatch) -> dict[str, Tensor]:
            found = self.frame.find(self.current_teacher.network, batch)
            return {"degrees": found.degrees.cpu(), "labels": found.prediction.logits.cpu()}

        none = {"degrees": torch.zeros(0), "labels": torch.zeros(0, self.task.num_classes)}
        self.beliefs = Round.collect(target, look, **none)
        self.beliefs.put("labels", at_source_rates(self.beliefs.all("labels"), self.task.class_rates))

    def turns(self, target: ClipBatch) -> Tensor:
        """Degrees ``(B,)`` that turn each clip upright: the opposite of the up of its first person."""
        return upright_turns(target, self.beliefs.of("degrees", target.people))

    def after_training(self, detector: ActionDetector) -> None:
        """Hand the teacher over, and forget the round."""
        super().after_training(detector)
        self.beliefs = self._nobody()

    def get_extra_state(self) -> RoundState:
        """The round, so that a stage resumed in the middle of one continues with the same angles and labels."""
        return self.beliefs.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Take up the round."""
        self.beliefs = Round.from_state(state)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """The supervised loss of the source, and that of the turned target with its labels of this round."""
        if self.arguments.scenes:
            source = change_scenes(source, target, torch.rand(len(source)) < self.arguments.scenes)
        of_source, of_target = forward_both(detector, source, target)
        labels = self.beliefs.of("labels", target.people).to(target.boxes.device)
        weight = self.arguments.weight * ramp_up(progress, self.arguments.ramp_up)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pseudo_label": weight * multilabel_bce(of_target.logits, labels, self.support),
        }

    def _nobody(self) -> Round:
        return Round([], degrees=torch.zeros(0), labels=torch.zeros(0, self.task.num_classes))
