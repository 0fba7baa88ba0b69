"""The types that every package shares: clips, batches, predictions, and the names of domains, splits and variants.

Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

Domain = Literal["source", "target"]
"""``source``: labels train the model there. ``target``: the model must work there."""
Footage = Literal["real", "simulated"]
"""MicroG-4M: recordings of missions, or films."""
Split = Literal["train", "val", "test"]
Stage = Literal["source", "adapt", "target_supervised"]
"""One training stage of a run."""
Variant = Literal["source_only", "adapted", "target_supervised"]
"""Which detector of a run."""

DOMAINS: tuple[Domain, ...] = get_args(Domain)
SPLITS: tuple[Split, ...] = get_args(Split)
STAGES: tuple[Stage, ...] = get_args(Stage)
VARIANTS: tuple[Variant, ...] = get_args(Variant)
STAGE_OF_VARIANT: dict[Variant, Stage] = {
    "source_only": "source",
    "adapted": "adapt",
    "target_supervised": "target_supervised",
}
"""Which stage trains the detector of each variant."""


class Prediction(NamedTuple):
    """What a detector predicts for ``K`` people.

    Attributes:
        logits: ``(K, C)``, never probabilities.
        features: ``(K, D)``, the pooled RoI features before dropout and the linear layer.
    """

    logits: Tensor
    features: Tensor


class ClipKey(NamedTuple):
    """Which keyframe a clip is: the clip's name and the frame that carries the boxes (counted from 1)."""

    video_id: str
    frame_stamp: int


@dataclass
class Clip:
    """The window around one keyframe, with the people in it.

    Attributes:
        frames: ``(3, T, H, W)``, uint8 RGB in 0…255 or float already normalised.
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` in the frames as they are now.
        table_boxes: ``(K, 4)`` float, the same people as the table has them, in [0, 1] of the original image:
            what a detection is written with, whatever transforms did to the frames.
        labels: ``(K, C)`` float in {0, 1}; None where labels must not be seen (the target domain).
        key: which keyframe this is.
    """

    frames: Tensor
    boxes: Tensor
    table_boxes: Tensor
    labels: Tensor | None
    key: ClipKey


@dataclass
class ClipBatch:
    """``B`` clips and the ``K`` people in all of them.

    Attributes:
        frames: ``(B, 3, T, H, W)``, uint8 RGB or float already normalised.
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2``.
        clip_index: ``(K,)`` int64, the clip that each box belongs to, ascending.
        labels: ``(K, C)`` float in {0, 1}, or None on the target domain.
        table_boxes: ``(K, 4)`` float in [0, 1], as the annotation table has them.
        keys: ``B`` keyframes.
        domain: ``"source"`` or ``"target"``.
    """

    frames: Tensor
    boxes: Tensor
    clip_index: Tensor
    labels: Tensor | None
    table_boxes: Tensor
    keys: tuple[ClipKey, ...]
    domain: str = "source"

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_boxes(self) -> int:
        """How many people there are in all clips together."""
        return len(self.boxes)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """A copy on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ClipBatch:
        """A copy in page-locked memory, for asynchronous transfer to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def without_labels(self) -> ClipBatch:
        """The same batch with its labels removed, as unlabelled target data is."""
        return replace(self, labels=None)

    def _map(self, function: Callable[[Tensor], Tensor]) -> ClipBatch:
        return replace(
            self,
            frames=function(self.frames),
            boxes=function(self.boxes),
            clip_index=function(self.clip_index),
            labels=None if self.labels is None else function(self.labels),
            table_boxes=function(self.table_boxes),
        )
