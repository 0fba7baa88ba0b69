"""The types that every package shares: clips, batches, predictions, and the names of domains, splits and variants.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor
    from typing_extensions import Self

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
FOOTAGE: tuple[Footage, ...] = get_args(Footage)
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

    Example:
        >>> import torch
        >>> from microg_da import Prediction
        >>> logits, features = Prediction(torch.zeros(2, 50), torch.zeros(2, 128))
        >>> logits.sigmoid()[0, 0]
        tensor(0.5000)

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
    """The person of a box: the keyframe, and the place of the person in the table of that keyframe (from 0).

    The key stays with the box through crops, drops, flips, rolls and concatenation. Whatever is remembered of a
    person is looked up by it, never by position in a batch.
    """

    keyframe: ClipKey
    place: int


@dataclass
class Clip:
    """The window around one keyframe, with the people in it. It has no place for labels: see :class:`LabelledClip`.

    Attributes:
        frames: ``(3, T, H, W)``, uint8 RGB in 0…255 or float already normalised.
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` in the frames as they are now.
        table_boxes: ``(K, 4)`` float, the same people as the table has them, in [0, 1] of the original image:
            what a detection is written with, whatever transforms did to the frames.
        key: which keyframe this is.
        people: who the ``K`` boxes belong to; by default the first ``K`` people of the keyframe.
        zoomed: whether decoding drew a random zoom; augmentation does not zoom such clips again.
    """

    frames: Tensor
    boxes: Tensor
    table_boxes: Tensor
    key: ClipKey
    people: tuple[PersonKey, ...] = ()
    zoomed: bool = False

    def __post_init__(self) -> None:
        self.people = self.people or tuple(PersonKey(self.key, place) for place in range(len(self.boxes)))
        _check_people(self.people, self.boxes)

    def with_labels(self, labels: Tensor) -> LabelledClip:
        """The same clip with ``(K, C)`` labels of its people."""
        return LabelledClip(**{**vars(self), "labels": labels})


@dataclass(kw_only=True)
class LabelledClip(Clip):
    """A clip with labels.

    Attributes:
        labels: ``(K, C)`` float in {0, 1}.
    """

    labels: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_labels(self.labels, self.boxes)


@dataclass
class ClipBatch:
    """``B`` clips and the ``K`` people in all of them. It has no place for labels: see :class:`LabelledClipBatch`.

    Example:
        >>> import torch
        >>> from microg_da import ClipBatch
        >>> boxes = torch.tensor([[8.0, 8, 40, 56], [0, 0, 32, 32]])
        >>> batch = ClipBatch(
        ...     frames=torch.zeros(1, 3, 8, 64, 64, dtype=torch.uint8), boxes=boxes, clip_index=torch.tensor([0, 0]),
        ...     table_boxes=boxes / 64, keys=(("film_1", 46),),
        ... )
        >>> len(batch), batch.num_boxes, batch.take_people(torch.tensor([True, False])).num_boxes
        (1, 2, 1)

    Attributes:
        frames: ``(B, 3, T, H, W)``, uint8 RGB or float already normalised.
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2``.
        clip_index: ``(K,)`` int64, the clip that each box belongs to, ascending.
        table_boxes: ``(K, 4)`` float in [0, 1], as the annotation table has them.
        keys: ``B`` keyframes.
        domain: the domain of the clips; ``"both"`` for a batch concatenated from both domains.
        people: who the ``K`` boxes belong to; by default each clip has the first people of its keyframe. Where people
            were pasted into other clips, their keyframe is not that of the clip.
        zoomed: whether decoding drew a random zoom of each clip.

    Raises:
        ValueError: if the numbers of people and boxes differ: people were dropped without :meth:`take_people`.
    """

    frames: Tensor
    boxes: Tensor
    clip_index: Tensor
    table_boxes: Tensor
    keys: tuple[ClipKey, ...]
    domain: Domain | Literal["both"] = "source"
    people: tuple[PersonKey, ...] = ()
    zoomed: bool = False

    _of_people: ClassVar[tuple[str, ...]] = ("boxes", "clip_index", "table_boxes")
    """The tensors with one row for each person."""

    def __post_init__(self) -> None:
        self.people = self.people or tuple(_number_people(self.keys, self.clip_index))
        _check_people(self.people, self.boxes)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_boxes(self) -> int:
        """How many people there are in all clips together."""
        return len(self.boxes)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, for asynchronous transfer to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def take_people(self, chosen: Tensor) -> Self:
        """The same clips with some of their people, and all that belongs to these.

        Args:
            chosen: ``(K,)`` bool, which people stay; or ``(N,)`` int64, the indices of those that stay, in order.
        """
        numbers = chosen if chosen.dtype.itemsize > 1 else chosen.nonzero()[:, 0]  # a boolean has one byte
        kept: dict[str, Any] = {name: getattr(self, name)[numbers] for name in self._of_people}
        return replace(self, **kept, people=tuple(self.people[number] for number in numbers.tolist()))

    def with_labels(self, labels: Tensor) -> LabelledClipBatch:
        """The same batch with ``(K, C)`` labels of its people."""
        return LabelledClipBatch(**{**vars(self), "labels": labels})

    def without_labels(self) -> ClipBatch:
        """The same batch as a type without labels, as unlabelled target data is."""
        return ClipBatch(**{field.name: getattr(self, field.name) for field in fields(ClipBatch)})

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        moved: dict[str, Any] = {name: function(getattr(self, name)) for name in ("frames", *self._of_people)}
        return replace(self, **moved)


@dataclass(kw_only=True)
class LabelledClipBatch(ClipBatch):
    """A batch with labels.

    Attributes:
        labels: ``(K, C)`` float in {0, 1}.

    Raises:
        ValueError: also if the numbers of labels and boxes differ.
    """

    labels: Tensor

    _of_people: ClassVar[tuple[str, ...]] = (*ClipBatch._of_people, "labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_labels(self.labels, self.boxes)


AnyClip = TypeVar("AnyClip", bound=Clip, covariant=True)
AnyBatch = TypeVar("AnyBatch", bound=ClipBatch)


class ClipSource(Protocol[AnyClip]):
    """Interface of a data set: clips of one split, by index, and what is known of them.

    A data set opened without labels yields :class:`Clip`, one opened with labels :class:`LabelledClip`.
    """

    def __len__(self) -> int:
        """How many clips."""
        ...

    def __getitem__(self, index: int) -> AnyClip:
        """The clip at ``index``."""
        ...

    @property
    def description(self) -> str:
        """One line about the data."""
        ...

    @property
    def keys(self) -> Sequence[ClipKey]:
        """The keyframe of each clip, in order."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second; None if it is not known."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Notes on the data for readers of results, a line each."""
        ...

    @property
    def split_hash(self) -> str | None:
        """The hash of the split; None if the data has one split only."""
        ...

    def annotations(self) -> pd.DataFrame:
        """The annotation table of these clips, for evaluation; it has labels also where clips have none."""
        ...

    def frame_sizes(self) -> np.ndarray | None:
        """``(N, 2)``: height and width of the frames of each clip, 0 if not known; None if all clips have one size."""
        ...

    def shortest_clip(self) -> int | None:
        """The number of frames of the shortest clip before a window is cut; None if it is not known."""
        ...

    def in_test_views(self) -> ClipSource[AnyClip]:
        """The same clips, each as it is shown when it is tested; nothing about them is random."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Draw other random views from now on."""
        ...

    def skipped(self) -> pd.DataFrame:
        """The clips that could not be read: ``video_id, frame_stamp, reason``."""
        ...

    def ups(self) -> dict[PersonKey, float] | None:
        """The true up of each person in degrees clockwise from the top of the picture, for evaluation only.

        None where it is not known.
        """
        ...


def _number_people(keys: Sequence[ClipKey], clip_index: Tensor) -> Iterator[PersonKey]:
    """The first people of every keyframe, as many as the clip has boxes."""
    met: Counter[int] = Counter()
    for clip in clip_index.tolist():
        yield PersonKey(keys[clip], met[clip])
        met[clip] += 1


def _check_people(people: Sequence[PersonKey], boxes: Tensor) -> None:
    if len(people) != len(boxes):
        raise ValueError(f"{len(people)} people and {len(boxes)} boxes: drop people with ClipBatch.take_people")


def _check_labels(labels: Tensor, boxes: Tensor) -> None:
    if len(labels) != len(boxes):
        raise ValueError(f"{len(labels)} rows of labels and {len(boxes)} boxes: each person needs one row of labels")
