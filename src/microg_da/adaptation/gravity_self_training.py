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
from microg_da.adaptation.person_crops import training_view
from microg_da.adaptation.round import Round, RoundState
from microg_da.adaptation.scenes import change_scenes
from microg_da.adaptation.self_training import at_source_rates
from microg_da.adaptation.teacher import TeacherMethod, ramp_up
from microg_da.adaptation.up_method import upright_turns
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch


@dataclass
class GravitySelfTrainingArguments(GravityFrameArguments):
    """Settings of :class:`GravitySelfTraining`, in addition to those of the estimation of up.

    Attributes:
        weight: weight of the loss on target people.
        ramp_up: share of the stage over which this weight rises from 0. The labels of the first round are those of the
            source model.
        round_epochs: epochs between rounds; the first round is before the first epoch.
        decay: decay of the moving average of weights that is the teacher.
        keep: the network that is validated and kept, ``teacher`` or ``student``.
        scenes: probability that a source clip's people are shown in front of a target clip, see
            :func:`~microg_da.adaptation.scenes.change_scenes`. It helps where the target's places differ from the
            source's, and it takes away places that the source and the target have in common.
    """

    weight: float = 1.0
    ramp_up: float = 0.0
    round_epochs: int = 2
    decay: float = 0.95
    keep: str = "teacher"
    scenes: float = 0.0


class GravitySelfTraining(TeacherMethod):
    """Self-training on clips turned upright, in rounds that estimate angles and actions.

    At the start of a round a teacher, the moving average of the detector's weights, predicts each target clip under the
    few rolls that an estimator of up proposes. The roll of highest confidence gives the angle. The predictions at this
    roll, shifted to the class rates of the source, are the labels. In the following epochs the detector is trained on
    source clips and on target clips turned by these angles, with a jitter of ``adaptation.rotation``. A better detector
    distinguishes up from down better, so that the next round has better angles and labels.

    The detector is trained only on upright people. At test time it needs
    :class:`~microg_da.adaptation.gravity_frame.GravityFrame`, which uses the same estimator.

    Labels and their rates are those of :class:`~microg_da.adaptation.self_training.SelfTraining`. Astro-Pose found that
    a mean teacher works better in a canonical orientation for the poses of astronauts.
    """

    Arguments: ClassVar[type] = GravitySelfTrainingArguments
    arguments: GravitySelfTrainingArguments
    needs_encoder = "estimates up from pixels and rolls clips by any angle"

    has_companion: ClassVar[bool] = True
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls", "class_rates"})

    def __init__(self, arguments: GravitySelfTrainingArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.frame = GravityFrame(arguments, task)
        self.beliefs = self._empty_round()

    @property
    def companion(self) -> GravityFrame:
        """Return the method that tests the detector in the gravity frame, with the same estimator of up."""
        return self.frame

    def built_for(self, detector: ActionDetector) -> None:
        """See :meth:`GravityFrame.built_for`."""
        self.frame.built_for(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """See :meth:`GravityFrame.rehearsing`."""
        with self.frame.rehearsing() as factor:
            yield factor

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Train the estimator of up, and use the source model as the first teacher."""
        super().before_training(detector, source, target)
        self.frame.prepare(detector, source, target)

    @torch.no_grad()
    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Start a round: estimate up and label all people with the teacher."""
        if epoch % self.arguments.round_epochs:
            return

        def look(batch: ClipBatch) -> dict[str, Tensor]:
            found = self.frame.find(self.current_teacher.network, batch)
            return {"degrees": found.degrees.cpu(), "labels": found.prediction.logits.cpu()}

        none = {"degrees": torch.zeros(0), "labels": torch.zeros(0, self.task.num_classes)}
        self.beliefs = Round.collect(target, look, **none)
        self.beliefs.put("labels", at_source_rates(self.beliefs.all("labels"), self.task.class_rates))

    def turns(self, target: ClipBatch) -> Tensor:
        """Return the degrees ``(B,)`` that turn each clip upright: minus the up of its first person."""
        return upright_turns(target, self.beliefs.of("degrees", target.people))

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the teacher to the detector if it is kept, and clear the round."""
        super().after_training(detector)
        self.beliefs = self._empty_round()

    def get_extra_state(self) -> RoundState:
        """Return the round, so that a resumed stage continues with the same angles and labels."""
        return self.beliefs.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Restore the round."""
        self.beliefs = Round.from_state(state)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss, and the loss of turned target clips with the labels of this round."""
        if self.arguments.scenes:
            source = change_scenes(source, target, torch.rand(len(source)) < self.arguments.scenes)
        source, target = training_view(source, self.arguments), training_view(target, self.arguments)
        of_source, of_target = forward_both(detector, source, target)
        labels = self.beliefs.of("labels", target.people).to(target.boxes.device)
        weight = self.arguments.weight * ramp_up(progress, self.arguments.ramp_up)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pseudo_label": weight * multilabel_bce(of_target.logits, labels, self.support),
        }

    def _empty_round(self) -> Round:
        return Round([], degrees=torch.zeros(0), labels=torch.zeros(0, self.task.num_classes))
