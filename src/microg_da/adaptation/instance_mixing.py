"""Training on clips of one domain with pasted people of the other domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Knowledge, Losses, Task, forward_both
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.pseudo_labels import ClassThresholds, PseudoLabelArguments, PseudoLabels, trusted_bce
from microg_da.adaptation.teacher import TeacherMethod, ramp_up
from microg_da.adaptation.views import paste_people
from microg_da.errors import InputError, unknown_name
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch

PASTED = ("source", "target")


@dataclass
class InstanceMixingArguments(PseudoLabelArguments):
    """Settings of :class:`InstanceMixing`, in addition to those of all methods with pseudo-labels.

    Attributes:
        teacher_rolls: number of evenly spaced camera rolls over which the teacher's probabilities are averaged.
        pasted: domain of the pasted people: ``source`` or ``target``.
        share: fraction of the people of a clip that are pasted, chosen at random and rounded up.
        margin: width of the border over which a pasted window fades, as a fraction of the box's sides.
        max_covered: largest fraction of a person that pasted windows may cover; other people are dropped.
    """

    teacher_rolls: int = 1
    pasted: str = "source"
    share: float = 0.5
    margin: float = 0.15
    max_covered: float = 0.5


class InstanceMixing(TeacherMethod):
    """Also trains the detector on mixed clips: source people in target scenes.

    Half of the people of a source clip are pasted into a target clip over the whole window, with their boxes and
    labels. Target people who remain visible keep their boxes and get pseudo-labels from a mean teacher. Only trusted
    entries of these labels are used.

    Deviations from the paper:

    - Pseudo-labels are decisions for each of C sigmoids, by rank at the label rates of the source. The paper uses a
      threshold.
    - The borders of pasted windows fade over a margin, and people who are mostly covered are dropped.
    - The student is kept; ``keep: teacher`` keeps the moving average.
    - ``pasted: target`` is the opposite direction, which is not in the paper.

    Lu et al., "Exploiting instance-based mixed sampling via auxiliary source domain supervision for domain-adaptive
    action detection" (DA-AIM), WACV 2023; labels by rank as in
    :class:`~microg_da.adaptation.mean_teacher.MeanTeacher`.
    """

    Arguments: ClassVar[type] = InstanceMixingArguments
    arguments: InstanceMixingArguments
    needs_encoder = "pastes people into other clips"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"class_rates"})

    def __init__(self, arguments: InstanceMixingArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.pasted not in PASTED:
            raise unknown_name("domain", arguments.pasted, PASTED, where="adaptation.args.pasted")
        if arguments.margin < 0:
            raise InputError(f"adaptation.args.margin={arguments.margin} is invalid: expected a number of at least 0.")
        if not 0 < arguments.share <= 1:
            raise InputError(f"adaptation.args.share={arguments.share} is invalid: expected a number in (0, 1].")
        self.thresholds = ClassThresholds(task.num_classes, arguments.positive, arguments.negative, arguments.memory)

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss and the loss of all people in the mixed clips."""
        labels = source.labels
        seen = self.current_teacher(target, self.arguments.teacher_rolls).sigmoid()
        pseudo = self.thresholds.label(seen, labels, self.support)
        mixed, known = self.mix(source, target, pseudo)
        of_source, of_mixed = forward_both(detector, source, mixed)
        weight = self.arguments.weight * ramp_up(progress, self.arguments.ramp_up)
        return {
            "supervised": multilabel_bce(of_source.logits, labels),
            "mixed": weight * trusted_bce(of_mixed.logits, known),
        }

    def mix(self, source: LabelledClipBatch, target: ClipBatch, pseudo: PseudoLabels) -> tuple[ClipBatch, PseudoLabels]:
        """Return mixed clips and the labels of their people; for source people the whole support is trusted."""
        labels = source.labels
        known = PseudoLabels(labels, self.support.to(labels).expand_as(labels))
        parts = [(source, known), (target, pseudo)]
        (background, below), (foreground, above) = parts if self.arguments.pasted == "target" else parts[::-1]
        chosen = some_of_each(foreground.clip_index, self.arguments.share)
        foreground, above = foreground.without_labels().take_people(chosen), PseudoLabels(*(x[chosen] for x in above))
        batch, origin = paste_people(foreground, background, self.arguments.margin, self.arguments.max_covered)
        return batch, PseudoLabels(*(torch.cat(both)[origin] for both in zip(below, above, strict=True)))


def some_of_each(clip_index: Tensor, share: float) -> Tensor:
    """Choose a fraction ``share`` of the people of each clip at random, rounded up; return ``(K,)`` bool.

    Args:
        clip_index: ``(K,)`` the clip of each person.
        share: in (0, 1].
    """
    order = torch.argsort(torch.rand(len(clip_index)).to(clip_index.device) + clip_index)
    clips = clip_index[order]
    # The rank of each person among the people of the clip, in random order.
    place = torch.arange(len(clips), device=clips.device) - torch.searchsorted(clips, clips)
    count = torch.bincount(clips, minlength=1)[clips] if len(clips) else clips
    chosen = torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
    chosen[order] = place < (share * count).ceil()
    return chosen
