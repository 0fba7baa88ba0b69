"""Self-supervised pretext task: predicts the quarter turn between two views of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.adaptation.base import DomainAdaptation, Knowledge, Losses, Task, forward_both
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.rotation_consistency import seen_mean
from microg_da.adaptation.views import first_clips, in_view
from microg_da.data.batches import concatenate_batches
from microg_da.models.detector import ActionDetector
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch, LabelledClipBatch

TURNS = 4


@dataclass
class RotationPretextArguments:
    """Settings of :class:`RotationPretext`.

    Attributes:
        weight: weight of the pretext loss.
        hidden_dim: width of the head that predicts the turn.
        own_lr: factor of the learning rate of that head.
    """

    weight: float = 0.1
    hidden_dim: int = 64
    own_lr: float = 1.0


class RotationPretext(DomainAdaptation):
    """Trains a small head to predict the quarter turn between two views of a person.

    The pretext task trains features on target clips without labels. It is a softmax over four turns. The first view is
    rolled by any angle, in both domains, so that the absolute roll, which is undefined in the target, gives no
    information. Half of the pairs are from each domain, and the number of views equals the number of target clips in
    the batch. The supervised source clips are not rolled.

    Gidaris et al., "Unsupervised representation learning by predicting image rotations", ICLR 2018; in both domains:
    Xu et al., "Self-supervised domain adaptation for computer vision tasks", IEEE Access 7, 2019.

    Deviation from both papers: the head predicts the turn between two views, and not the turn from an upright view. In
    orbit there is no upright view: a head for absolute turns had an accuracy of 91% on source people and of 27% on
    target people, at a chance level of 25%.
    """

    Arguments: ClassVar[type] = RotationPretextArguments
    arguments: RotationPretextArguments
    needs_encoder = "rolls the clips of each step by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: RotationPretextArguments, task: Task) -> None:
        super().__init__(arguments, task)
        width = arguments.hidden_dim
        self.turn_classifier = nn.Sequential(nn.Linear(2 * task.feature_dim, width), nn.ReLU(), nn.Linear(width, TURNS))

    @property
    def own_lr_scale(self) -> float:
        """The factor for the head."""
        return self.arguments.own_lr

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised source loss and the cross-entropy of the turn between views."""
        quarter = (len(target) + 3) // 4
        plain = concatenate_batches(first_clips(source, quarter), first_clips(target, quarter))
        angles, turns = 360.0 * torch.rand(len(plain)), torch.randint(0, TURNS, (len(plain),))
        first, second = roll_batch(plain, angles), roll_batch(plain, angles + 90.0 * turns)
        of_source, of_views = forward_both(detector, source, concatenate_batches(first, second))
        answers = self.turn_classifier(torch.cat(of_views.features.chunk(2), dim=1))
        truth = turns.to(plain.clip_index.device)[plain.clip_index]
        seen = in_view(plain.boxes, first.boxes) * in_view(plain.boxes, second.boxes)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pretext": self.arguments.weight * turn_loss(answers, truth, seen),
        }


def turn_loss(logits: Tensor, turns: Tensor, seen: Tensor) -> Tensor:
    """Return the cross-entropy of the turn, averaged over people in the frame; 0 with zero gradient without any.

    Args:
        logits: ``(K, 4)``.
        turns: ``(K,)`` quarter turns, 0 to 3.
        seen: ``(K,)`` 1 for people still in the frame.
    """
    return seen_mean(F.cross_entropy(logits.float(), turns, reduction="none"), seen)
