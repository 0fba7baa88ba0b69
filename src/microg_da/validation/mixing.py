"""MixVal: whether predictions for mixed target people agree with the predictions for their parts."""

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
"""How much of a mixture is its first part: hardly more than of its second, as in the paper."""
LARGEST_ZOOM = 4.0
"""The second person is zoomed to the size of the first, at most by this."""


def mixval(observed: Observed) -> float:
    """How often a mixture of two target people gets the answer of its larger part; NaN without mixtures.

    The detector's own answers are the labels. Per class, a mixture of two people who got one answer asks whether
    clusters hold together, one of two who got different answers whether the border between them lies in the middle.
    Each of the two is the mean of the accuracy where the first part has the class and where it has not; the score is
    the mean of both.

    Multi-label form: the paper compares the likeliest class, here each class in the support is compared by itself, and
    all classes are pooled. The paper ranks candidates by each of the two kinds and takes the mean rank; a number that
    one candidate gets by itself must be the mean of the two. People, not pictures, are mixed: the second is moved and
    zoomed until their box is that of the first. NaN also where no person is mixed with a person of another answer.
    Only people of one batch are mixed, so the score depends on the batch size and on the number of processes: compare
    candidates that were scored with the same of both.

    Hu et al., "Mixed samples as probes for unsupervised model selection in domain adaptation", NeurIPS 2023.
    """
    if observed.mixed is None or not observed.mixed.numel():
        return math.nan
    mixed = observed.mixed if observed.support is None else observed.mixed[..., observed.support]
    first, second, said = (mixed > 0).unbind(dim=1)
    right = said == first
    kinds = []
    for alike in (True, False):
        of_kind = (first == second) == alike
        cases = [right[of_kind & (first == has)] for has in (True, False)]
        kinds.append([float(case.double().mean()) for case in cases if len(case)])
    if not all(kinds):
        return math.nan
    return sum(sum(kind) / len(kind) for kind in kinds) / 2


class MixedPeople(Metric):
    """Collects the answers to mixtures of target people in one pass, on any number of processes.

    Args:
        num_classes: C.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("answers", default=[], dist_reduce_fx="cat")

    def update(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Mix the people of a batch, and ask for the answers.

        Args:
            batch: target clips.
            prediction: the answers to its people as they are.
            predict: what gave them.
        """
        pair = pairs(batch)
        if not len(pair):
            return
        said = predict(mix_people(batch, pair)).logits
        logits = prediction.logits.detach().float()
        answers = torch.stack([logits[pair[:, 0]], logits[pair[:, 1]], said.detach().float()], dim=1)
        getattr(self, "answers").append(answers)  # noqa: B009 - mypy takes a metric's state for a module

    def compute(self) -> Tensor:
        """``(P, 3, C)`` logits of the first person, the second, and the mixture, for P mixtures."""
        found: Tensor | list[Tensor] = getattr(self, "answers")  # noqa: B009
        joined = dim_zero_cat(found) if not isinstance(found, list) or found else torch.zeros(0)
        return joined.reshape(-1, 3, self.num_classes).cpu()


def pairs(batch: ClipBatch) -> Tensor:
    """``(P, 2)`` people to mix: the first of each clip with the first of the clip as far from the end.

    A clip without people has none; the middle one of an odd number has no partner.
    """
    changes = batch.clip_index.diff(prepend=batch.clip_index.new_full((1,), -1)) != 0
    first = changes.nonzero()[:, 0]
    pair = torch.stack([first, first.flip(0)], dim=1)
    return pair[pair[:, 0] != pair[:, 1]]


def mix_people(batch: ClipBatch, pair: Tensor, share: float = SHARE) -> ClipBatch:
    """One clip for each pair: the clip of the first person, with that of the second laid over it, box on box.

    Args:
        batch: frames ``(B, 3, T, H, W)``.
        pair: ``(P, 2)`` indices of people.
        share: of the first clip.
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
    """Frames ``(P, 3, T, H, W)`` moved and zoomed until ``boxes`` (P, 4) lie where ``wanted`` (P, 4) are."""
    height, width = frames.shape[-2:]
    half = boxes.new_tensor([width, height]) / 2
    sizes = [(box[:, 2:] - box[:, :2]).clamp_min(1.0) for box in (boxes, wanted)]
    zoom = (sizes[0] / sizes[1]).clamp(1 / LARGEST_ZOOM, LARGEST_ZOOM)
    # grid_sample counts from -1 to 1 in each direction.
    centres = [(box[:, :2] + box[:, 2:]) / 2 / half - 1 for box in (boxes, wanted)]
    shift = centres[0] - zoom * centres[1]
    theta = torch.cat([torch.diag_embed(zoom), shift[:, :, None]], dim=2)
    flat = frames.flatten(1, 2)
    grid = F.affine_grid(theta.to(flat), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False).view_as(frames)
