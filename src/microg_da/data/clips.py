"""What a network sees: one :class:`Clip` per keyframe, many of them as one :class:`ClipBatch`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate


class ClipKey(NamedTuple):
    """Which keyframe a clip is: the clip's name and the frame that carries the boxes (counted from 1)."""

    video_id: str
    frame_stamp: int


class PersonKey(NamedTuple):
    """Who a box belongs to: the keyframe, and the place of the person in the table of that keyframe (from 0).

    The key stays with the box through crops, drops, flips, rolls and concatenation. Whatever is remembered of a
    person is looked up by it, never by position in a batch.
    """

    keyframe: ClipKey
    place: int


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
        people: who the ``K`` boxes belong to; by default the first ``K`` people of the keyframe.
        zoomed: whether decoding drew a random zoom; augmentation does not zoom such clips again.
    """

    frames: Tensor
    boxes: Tensor
    table_boxes: Tensor
    labels: Tensor | None
    key: ClipKey
    people: tuple[PersonKey, ...] = ()
    zoomed: bool = False

    def __post_init__(self) -> None:
        self.people = self.people or tuple(PersonKey(self.key, place) for place in range(len(self.boxes)))
        _check_people(self.people, self.boxes)


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
        people: who the ``K`` boxes belong to; by default each clip has the first people of its keyframe. Where people
            were pasted into other clips, their keyframe is not that of the clip.
        zoomed: whether decoding drew a random zoom of each clip.

    Raises:
        ValueError: if the numbers of people and boxes differ: people were dropped without :meth:`take_people`.
    """

    frames: Tensor
    boxes: Tensor
    clip_index: Tensor
    labels: Tensor | None
    table_boxes: Tensor
    keys: tuple[ClipKey, ...]
    domain: str = "source"
    people: tuple[PersonKey, ...] = ()
    zoomed: bool = False

    def __post_init__(self) -> None:
        self.people = self.people or tuple(_number_people(self.keys, self.clip_index))
        _check_people(self.people, self.boxes)

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

    def take_people(self, chosen: Tensor) -> ClipBatch:
        """The same clips with some of their people, and all that belongs to these.

        Args:
            chosen: ``(K,)`` bool, who stays; or int64, who comes in which order.
        """
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero()[:, 0]
        return replace(
            self,
            boxes=self.boxes[chosen],
            clip_index=self.clip_index[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            table_boxes=self.table_boxes[chosen],
            people=tuple(self.people[number] for number in chosen.tolist()),
        )

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
        ValueError: if some clips carry labels and others do not, some are zoomed and others not, or frames differ in
            shape.
    """
    labelled = [clip.labels is not None for clip in clips]
    if any(labelled) != all(labelled):
        raise ValueError("a batch mixes clips with and without labels")
    zoomed = {clip.zoomed for clip in clips}
    if len(zoomed) > 1:
        raise ValueError("a batch mixes clips that were zoomed on decoding with clips that were not")
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
        people=tuple(person for clip in clips for person in clip.people),
        zoomed=any(zoomed),
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
        people=(*first.people, *second.people),
        zoomed=first.zoomed or second.zoomed,
    )


def _number_people(keys: Sequence[ClipKey], clip_index: Tensor) -> Iterator[PersonKey]:
    """The first people of every keyframe, as many as the clip has boxes."""
    met: Counter[int] = Counter()
    for clip in clip_index.tolist():
        yield PersonKey(keys[clip], met[clip])
        met[clip] += 1


def _check_people(people: Sequence[PersonKey], boxes: Tensor) -> None:
    if len(people) != len(boxes):
        raise ValueError(f"{len(people)} people and {len(boxes)} boxes: drop people with ClipBatch.take_people")
