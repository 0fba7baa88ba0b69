"""Subtraction of the prediction for a still frame, at test time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import Task, TestTimeMethod, detect
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction


@dataclass
class TemporalStaticArguments:
    """Settings of :class:`TemporalStatic`.

    Attributes:
        weight: factor of the subtracted prediction for a still frame; 0 changes nothing.
        target_batches: number of target batches for the mean prediction of still frames.
    """

    weight: float = 0.2
    target_batches: int = 16


class TemporalStatic(TestTimeMethod):
    """Subtracts the prediction for the keyframe alone, so that motion counts more than the scene.

    The detector predicts each clip twice: as it is, and with its middle frame repeated. Logits and features become
    ``clip - weight (still - usual)``, where ``usual`` is the mean prediction for stills of target clips, which nearly
    preserves class rates. Classes that a still shows as well as a clip (postures) lose accuracy, so that the weight is
    small.

    The idea is from Wei et al., "Return of frustratingly easy unsupervised video domain adaptation", ICML 2026
    (MetaTrans), who subtract a permutation-invariant stream of a trained transformer from a temporal stream. Here
    nothing is trained.
    """

    Arguments: ClassVar[type] = TemporalStaticArguments
    arguments: TemporalStaticArguments
    needs_encoder = "encodes still pictures that it makes of the clips"
    usual_logits: Tensor
    usual_features: Tensor

    def __init__(self, arguments: TemporalStaticArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.weight <= 1:
            raise InputError(f"temporal_static: weight={arguments.weight} is invalid: expected a number in [0, 1].")
        self.register_buffer("usual_logits", torch.zeros(task.num_classes))
        self.register_buffer("usual_features", torch.zeros(task.feature_dim))

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Compute the mean prediction for stills of target clips; without people it is 0."""
        answers = [detect(detector, still(batch)) for batch in islice(target, self.arguments.target_batches)]
        if sum(len(answer.logits) for answer in answers):
            self.usual_logits.copy_(torch.cat([answer.logits.float() for answer in answers]).mean(dim=0))
            self.usual_features.copy_(torch.cat([answer.features.float() for answer in answers]).mean(dim=0))

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Return the prediction for the clip minus that for the still, with two forward passes."""
        moving = detect(detector, batch)
        if not batch.num_boxes:
            return moving
        resting = detect(detector, still(batch))
        weight = self.arguments.weight
        return Prediction(
            moving.logits.float() - weight * (resting.logits.float() - self.usual_logits),
            moving.features.float() - weight * (resting.features.float() - self.usual_features),
        )


def still(batch: ClipBatch) -> ClipBatch:
    """Return the clips with all frames replaced by the middle frame, the keyframe."""
    length = batch.frames.shape[2]
    middle = batch.frames[:, :, length // 2 : length // 2 + 1]
    return replace(batch, frames=middle.expand(-1, -1, length, -1, -1).contiguous())
