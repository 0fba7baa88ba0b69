"""Which way is the clip rolled? A question that needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.adaptation.base import DomainAdaptation, Losses, Task, forward_both
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
        weight: of the pretext loss.
        hidden_dim: width of the head that predicts the turn.
    """

    weight: float = 0.1
    hidden_dim: int = 64


class RotationPretext(DomainAdaptation):
    """A small head reads from RoI features by which quarter turn a clip was rolled, in both domains.

    What it learns to look at, the features learn of the target without labels. A clip has one turn of four, so the
    pretext keeps its softmax; the actions' labels have no part in it. Half of the target clips and as many source
    clips are rolled, so that a step costs what one view of all target clips would; the supervised source clips stay
    as they are. With ``adaptation.rotation`` the turn could not be told: leave that null.

    Gidaris et al., "Unsupervised representation learning by predicting image rotations", ICLR 2018; in both domains:
    Xu et al., "Self-supervised domain adaptation for computer vision tasks", IEEE Access 7, 2019.
    """

    Arguments: ClassVar[type] = RotationPretextArguments
    arguments: RotationPretextArguments

    def __init__(self, arguments: RotationPretextArguments, task: Task) -> None:
        super().__init__(arguments, task)
        width = arguments.hidden_dim
        self.turn_classifier = nn.Sequential(nn.Linear(task.feature_dim, width), nn.ReLU(), nn.Linear(width, TURNS))

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """The supervised loss of source people, and the cross-entropy of the turn of rolled people."""
        half = (len(target) + 1) // 2
        plain = concatenate_batches(first_clips(source, half), first_clips(target, half))
        turns = torch.randint(0, TURNS, (len(plain),))
        rolled = roll_batch(plain, 90.0 * turns)
        of_source, of_rolled = forward_both(detector, source, rolled)
        answers = self.turn_classifier(of_rolled.features)
        truth = turns.to(rolled.clip_index.device)[rolled.clip_index]
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            "pretext": self.arguments.weight * turn_loss(answers, truth, in_view(plain.boxes, rolled.boxes)),
        }


def turn_loss(logits: Tensor, turns: Tensor, seen: Tensor) -> Tensor:
    """Cross-entropy of the turn, mean over people still in the picture; 0 (with a gradient of 0) without any.

    Args:
        logits: ``(K, 4)``.
        turns: ``(K,)`` quarter turns, 0 to 3.
        seen: ``(K,)`` 1 for people still in the picture.
    """
    return seen_mean(F.cross_entropy(logits.float(), turns, reduction="none"), seen)
