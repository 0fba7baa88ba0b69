"""Self-training in rounds, on labels averaged over camera rolls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Knowledge, Losses, Task, forward_both
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.round import Round, RoundState
from microg_da.adaptation.teacher import TeacherMethod
from microg_da.models.detector import ActionDetector
from microg_da.transforms.stored_frames import even_views
from microg_da.types import ClipBatch, LabelledClipBatch, PersonKey


@dataclass
class SelfTrainingArguments:
    """Settings of :class:`SelfTraining`.

    Attributes:
        rolls: number of evenly spaced camera rolls over which target clips are labelled; 1 for no rolls.
        weight: weight of the loss on target people.
        round_epochs: epochs between labellings; the first is before the first epoch.
        decay: decay of the moving average of weights that is the teacher.
        keep: the network that is validated and kept, ``teacher`` or ``student``.
        temperature: temperature of the weights of rolls, see :class:`~microg_da.adaptation.roll_tta.RollTTA`.
    """

    rolls: int = 8
    weight: float = 1.0
    round_epochs: int = 2
    decay: float = 0.95
    keep: str = "teacher"
    temperature: float = 1.0


class SelfTraining(TeacherMethod):
    """Trains on soft labels of target clips that a teacher makes in rounds, averaged over several rolls.

    Averaging over rolls lets a detector that is trained on upright people label floating people. In later rounds the
    detector also recognises other angles. The teacher is the moving average of the detector's weights, which is better
    than the detector while the learning rate is high. Labels are soft. Their logits are shifted until the mean of each
    class is its rate among source people (``class_rates``), so that rare classes do not vanish over rounds. This
    assumes equal class rates in both domains. (Lee, "Pseudo-Label", ICML workshop 2013; rates as in Zou et al.,
    "Unsupervised domain adaptation via class-balanced self-training", ECCV 2018, for exclusive classes; here each of C
    sigmoids has a rate.)
    """

    Arguments: ClassVar[type] = SelfTrainingArguments
    arguments: SelfTrainingArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls", "class_rates"})

    def __init__(self, arguments: SelfTrainingArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.stored_views = even_views(max(arguments.rolls, 1))
        self._round = Round([], labels=torch.zeros(0, task.num_classes))

    @torch.no_grad()
    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Start a round: label all target clips with the teacher."""
        if epoch % self.arguments.round_epochs:
            return

        def look(batch: ClipBatch) -> dict[str, Tensor]:
            return {"labels": self.current_teacher(batch, self.arguments.rolls, self.arguments.temperature)}

        self._round = Round.collect(target, look, labels=torch.zeros(0, self.task.num_classes))
        self._round.put("labels", at_source_rates(self._round.all("labels"), self.task.class_rates))

    def after_training(self, detector: ActionDetector) -> None:
        """Copy the teacher to the detector if it is kept, and clear the labels."""
        super().after_training(detector)
        self._round = Round([], labels=torch.zeros(0, self.task.num_classes))

    def get_extra_state(self) -> RoundState:
        """Return the labels of the round, so that a resumed stage continues with them."""
        return self._round.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Restore the labels of the round."""
        self._round = Round.from_state(state)

    def labels_of(self, people: Sequence[PersonKey]) -> Tensor:
        """Return the labels ``(K, C)`` of the people in this round; errors are those of :meth:`Round.of`."""
        return self._round.of("labels", people)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss, and the target loss with the labels of this round."""
        labels = self.labels_of(target.people).to(target.boxes.device)
        of_source, of_target = forward_both(detector, source, target)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pseudo_label": self.arguments.weight * multilabel_bce(of_target.logits, labels, self.support),
        }


def at_source_rates(logits: Tensor, rates: Sequence[float] | None) -> Tensor:
    """Return soft labels ``(K, C)`` at the source's class rates, or probabilities if the rates are unknown."""
    return logits.sigmoid() if rates is None else match_rates(logits, rates)


def match_rates(logits: Tensor, rates: Tensor | Sequence[float]) -> Tensor:
    """Return probabilities ``(K, C)`` with the mean ``rates`` over people, by a shift of the logits of each class.

    Args:
        logits: ``(K, C)``.
        rates: ``(C,)`` in [0, 1]; probabilities are 0 for a class of rate 0 and 1 for a class of rate 1.
    """
    if not len(logits):
        return logits.sigmoid()
    # With a shift this far beyond the largest logit, all probabilities are 0 or 1 in single precision.
    rates = torch.as_tensor(rates).to(logits)
    reach = float(logits.abs().max()) + 40.0
    low, high = torch.full_like(rates, -reach), torch.full_like(rates, reach)
    for _ in range(60):
        shift = (low + high) / 2
        too_few = (logits + shift).sigmoid().mean(dim=0) < rates
        low, high = torch.where(too_few, shift, low), torch.where(too_few, high, shift)
    probabilities = (logits + (low + high) / 2).sigmoid()
    return torch.where((rates > 0) & (rates < 1), probabilities, rates.expand_as(probabilities))
