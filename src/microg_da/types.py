"""What a network sees: one :class:`Clip` per keyframe, many of them as one :class:`ClipBatch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate


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

    def _map(self, function) -> ClipBatch:  # type: ignore[no-untyped-def]
        return replace(
            self,
            frames=function(self.frames),
            boxes=function(self.boxes),
            clip_index=function(self.clip_index),
            labels=None if self.labels is None else function(self.labels),
            table_boxes=function(self.table_boxes),
        )


def collate_clips(clips: Sequence[Clip], domain: str = "source") -> ClipBatch:
    """Put clips of equal frame size side by side; clips without people are allowed.

    Raises:
        ValueError: if some clips carry labels and others do not, or frames differ in shape.
    """
    labelled = [clip.labels is not None for clip in clips]
    if any(labelled) != all(labelled):
        raise ValueError("a batch mixes clips with and without labels")
    shapes = {tuple(clip.frames.shape) for clip in clips}
    if len(shapes) > 1:
        raise ValueError(f"clips of one batch must have one shape, got {sorted(shapes)}; use batch size 1 or a crop")
    counts = torch.tensor([len(clip.boxes) for clip in clips])
    return ClipBatch(
        frames=default_collate([clip.frames for clip in clips]),  # in a worker, straight into shared memory
        boxes=torch.cat([clip.boxes for clip in clips]).float(),
        clip_index=torch.repeat_interleave(torch.arange(len(clips)), counts),
        labels=torch.cat([clip.labels for clip in clips]).float() if all(labelled) else None,  # type: ignore[misc]
        table_boxes=torch.cat([clip.table_boxes for clip in clips]).float(),
        keys=tuple(clip.key for clip in clips),
        domain=domain,
    )


def concatenate_batches(first: ClipBatch, second: ClipBatch) -> ClipBatch:
    """Two batches as one, the first's clips and people before the second's; labels are dropped.

    The labels are dropped because the second batch is usually unlabelled; callers keep the first's.
    """
    if first.frames.shape[1:] != second.frames.shape[1:]:
        raise ValueError(f"frames differ in shape: {tuple(first.frames.shape)} and {tuple(second.frames.shape)}")
    return ClipBatch(
        frames=torch.cat([first.frames, second.frames]),
        boxes=torch.cat([first.boxes, second.boxes]),
        clip_index=torch.cat([first.clip_index, second.clip_index + len(first)]),
        labels=None,
        table_boxes=torch.cat([first.table_boxes, second.table_boxes]),
        keys=(*first.keys, *second.keys),
        domain="both",
    )
