"""MixVal: agreement of predictions for mixtures of target people with the predictions for their parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from microg_da.types import ClipBatch, Prediction
from microg_da.validation.observations import Observed

SHARE = 0.55
"""Share of the first part in a mixture: slightly more than a half, as in the paper."""
LARGEST_ZOOM = 4.0
"""Maximum zoom of the second person to the size of the first."""


def mixval(observed: Observed) -> float:
    """Return how often a mixture of two target people gets the prediction of its larger part; NaN without mixtures.

    The predictions of the detector for the original people are the labels. For each class, mixtures of two people with
    equal predictions measure the consistency of clusters, and mixtures of two people with different predictions
    measure whether the decision boundary is in the middle between them. Each measure is the balanced accuracy, the
    mean over first parts with and without the class. The score is the mean of both measures.

    Multi-label form: the paper compares the likeliest class. Here each class in the support is compared separately,
    and all classes are pooled. The paper ranks candidates by each measure and uses the mean rank; the score of a
    single candidate is the mean of both measures. People, not pictures, are mixed: the second person is moved and
    zoomed to the box of the first. The score is NaN if all mixed people have equal predictions. Only people of one
    batch are mixed, so the score depends on the batch size and the number of processes: compare candidates with equal
    values of both.

    Hu et al., "Mixed samples as probes for unsupervised model selection in domain adaptation", NeurIPS 2023.
    """
    if observed.mixed is None or not observed.mixed.numel():
        return math.nan
    mixed = observed.mixed if observed.support is None else observed.mixed[..., observed.support]
    first, second, mixture = (mixed > 0).unbind(dim=1)
    right = mixture == first
    kinds = []
    for alike in (True, False):
        of_kind = (first == second) == alike
        cases = [right[of_kind & (first == has)] for has in (True, False)]
        kinds.append([float(case.double().mean()) for case in cases if len(case)])
    if not all(kinds):
        return math.nan
    return sum(sum(kind) / len(kind) for kind in kinds) / 2


class MixedPeople(Metric):
    """Accumulates the predictions for mixtures of target people in one pass, on any number of processes.

    Args:
        num_classes: C.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("answers", default=[], dist_reduce_fx="cat")

    def update(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Mix the people of a batch, and predict the mixtures.

        Args:
            batch: target clips.
            prediction: the predictions for the original people.
            predict: computes predictions for other clips.
        """
        pair = pairs(batch)
        if not len(pair):
            return
        mixture = predict(mix_people(batch, pair)).logits
        logits = prediction.logits.detach().float()
        answers = torch.stack([logits[pair[:, 0]], logits[pair[:, 1]], mixture.detach().float()], dim=1)
        getattr(self, "answers").append(answers)  # noqa: B009 - mypy takes a metric's state for a module

    def compute(self) -> Tensor:
        """Return ``(P, 3, C)`` logits of the first person, the second person, and the mixture, for P mixtures."""
        found: Tensor | list[Tensor] = getattr(self, "answers")  # noqa: B009
        joined = dim_zero_cat(found) if not isinstance(found, list) or found else torch.zeros(0)
        return joined.reshape(-1, 3, self.num_classes).cpu()


def pairs(batch: ClipBatch) -> Tensor:
    """Return ``(P, 2)`` people to mix: the first person of clip ``i`` and of the ``i``-th clip from the end.

    Clips without people are skipped. The middle clip of an odd number has no partner.
    """
    changes = batch.clip_index.diff(prepend=batch.clip_index.new_full((1,), -1)) != 0
    first = changes.nonzero()[:, 0]
    pair = torch.stack([first, first.flip(0)], dim=1)
    return pair[pair[:, 0] != pair[:, 1]]


def mix_people(batch: ClipBatch, pair: Tensor, share: float = SHARE) -> ClipBatch:
    """Return one clip for each pair: the clips of both people, blended with aligned boxes.

    Args:
        batch: frames ``(B, 3, T, H, W)``.
        pair: ``(P, 2)`` indices of people.
        share: share of the first clip.
    """
    first, second = pair.unbind(dim=1)
    frames = batch.frames[batch.clip_index[first]].float()
    other = _moved(batch.frames[batch.clip_index[second]].float(), batch.boxes[second], batch.boxes[first])
    mixed = torch.lerp(other, frames, share)
    if not batch.frames.is_floating_point():
        mixed = mixed.round_().clamp_(0, 255)
    keys = tuple(batch.keys[clip] for clip in batch.clip_index[first].tolist())
    return replace(
        batch.without_labels().take_people(first),
        frames=mixed.to(batch.frames.dtype),
        clip_index=torch.arange(len(pair), device=first.device),
        keys=keys,
    )


def _moved(frames: Tensor, boxes: Tensor, wanted: Tensor) -> Tensor:
    """Move and zoom frames ``(P, 3, T, H, W)`` so that ``boxes`` (P, 4) coincide with ``wanted`` (P, 4)."""
    height, width = frames.shape[-2:]
    half = boxes.new_tensor([width, height]) / 2
    sizes = [(box[:, 2:] - box[:, :2]).clamp_min(1.0) for box in (boxes, wanted)]
    zoom = (sizes[0] / sizes[1]).clamp(1 / LARGEST_ZOOM, LARGEST_ZOOM)
    # grid_sample uses coordinates from -1 to 1.
    centres = [(box[:, :2] + box[:, 2:]) / 2 / half - 1 for box in (boxes, wanted)]
    shift = centres[0] - zoom * centres[1]
    theta = torch.cat([torch.diag_embed(zoom), shift[:, :, None]], dim=2)
    flat = frames.flatten(1, 2)
    grid = F.affine_grid(theta.to(flat), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False).view_as(frames)
