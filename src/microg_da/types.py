"""The types that every package shares: clips, batches, predictions, and the names of domains, splits and variants.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
            chosen: ``(K,)`` bool, which people stay; or ``(N,)`` int64, the indices of those that stay, in order.
        """
        numbers = chosen if chosen.dtype.itemsize > 1 else chosen.nonzero()[:, 0]  # a boolean has one byte
        return replace(
            self,
            boxes=self.boxes[numbers],
            clip_index=self.clip_index[numbers],
            labels=None if self.labels is None else self.labels[numbers],
            table_boxes=self.table_boxes[numbers],
            people=tuple(self.people[number] for number in numbers.tolist()),
        )

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


def _number_people(keys: Sequence[ClipKey], clip_index: Tensor) -> Iterator[PersonKey]:
    """The first people of every keyframe, as many as the clip has boxes."""
    met: Counter[int] = Counter()
    for clip in clip_index.tolist():
        yield PersonKey(keys[clip], met[clip])
        met[clip] += 1


def _check_people(people: Sequence[PersonKey], boxes: Tensor) -> None:
    if len(people) != len(boxes):
        raise ValueError(f"{len(people)} people and {len(boxes)} boxes: drop people with ClipBatch.take_people")
