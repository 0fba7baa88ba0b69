"""Invariance to camera roll by design: features are averaged over several rolls of a clip.

Averaging over a group of rotations makes any network invariant to it, without additional weights, at a multiple of the
cost: Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, with a fixed frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from microg_da.config import ROLL_POOLINGS
from microg_da.errors import InputError, unknown_name
from microg_da.models.backbone import Backbone
from microg_da.models.detector import AUTO_STRIDE, ActionDetector
from microg_da.models.person_head import PersonHead
from microg_da.transforms.affine import clip_boxes, move_boxes
from microg_da.transforms.rotation import roll_frames, roll_map
from microg_da.types import Prediction


class RollPooledDetector(ActionDetector):
    """A detector whose RoI features are means over rolls of the clip, with the parameter names of the plain detector.

    ``c4`` uses multiples of 90°, which only reorder pixels: frames need not be square, and a quarter turn of the clip
    gives the same features up to the order of summation. ``c8`` also uses 45° and its quarter turns. At these rolls
    corners are filled by reflection, and people are weighted by the fraction of the box inside the frame.

    Args:
        backbone: as for :class:`~microg_da.models.detector.ActionDetector`.
        num_classes: as for :class:`~microg_da.models.detector.ActionDetector`.
        dropout: as for :class:`~microg_da.models.detector.ActionDetector`.
        roi_stride: as for :class:`~microg_da.models.detector.ActionDetector`.
        head: as for :class:`~microg_da.models.detector.ActionDetector`.
        group: ``"c4"`` or ``"c8"``.

    Raises:
        InputError: for another group.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        dropout: float = 0.5,
        roi_stride: str | bool | float = AUTO_STRIDE,
        head: PersonHead | None = None,
        *,
        group: str,
    ) -> None:
        super().__init__(backbone, num_classes, dropout, roi_stride, head)
        if group not in ROLL_POOLINGS:
            raise unknown_name("group of rolls", group, ROLL_POOLINGS, where="model.roll_pooling")
        self.group = group

    def forward(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Prediction:
        """Predict the people by their mean features; see :meth:`ActionDetector.forward`."""
        seen, weights = [], []
        for view, moved, weight in self._views(frames, boxes, clip_index):
            seen.append(weight * super().forward(view, moved, clip_index).features)
            weights.append(weight)
        features = torch.stack(seen).sum(dim=0) / torch.stack(weights).sum(dim=0)
        return Prediction(self.head.projection(self.head.dropout(features)), features)

    def local_predictions(
        self, frames: Tensor, boxes: Tensor, clip_index: Tensor, slices: int
    ) -> tuple[Prediction, Tensor]:
        """Raise an error, because the grids of different rolls are not aligned."""
        raise InputError(
            f"model.roll_pooling={self.group} has one feature for each clip, but this adaptation needs features of "
            "temporal slices. Choose another adaptation, or set model.roll_pooling=null."
        )

    def _views(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield frames and boxes at each roll, and the visible fraction ``(K, 1)`` of each person."""
        everyone = boxes.new_ones(len(boxes), 1)
        yield from _quarter_turns(frames, boxes, everyone)
        if self.group == "c8":
            size = frames.shape[-2:]
            degrees = torch.full((len(frames),), 45.0)
            moved = move_boxes(boxes, clip_index, roll_map(degrees), size, clip=False)
            inside = clip_boxes(moved, size)
            seen = _areas(inside) / _areas(moved).clamp(min=torch.finfo(boxes.dtype).tiny)
            yield from _quarter_turns(roll_frames(frames, degrees), inside, seen)


def _quarter_turns(frames: Tensor, boxes: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield four clockwise quarter turns, which exchange height and width without loss."""
    for _ in range(4):
        yield frames, boxes, weight
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        height = frames.shape[-2]
        frames = torch.rot90(frames, -1, dims=(-2, -1))
        boxes = torch.stack([height - y2, x1, height - y1, x2], dim=1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1, keepdim=True)
