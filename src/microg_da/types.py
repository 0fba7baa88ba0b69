"""Types that all packages share: clips, batches, predictions, and the names of domains, splits and variants.

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
"""``source``: the domain whose labels train the model. ``target``: the domain on which the model must work."""
Footage = Literal["real", "simulated"]
"""The origin of a MicroG-4M clip: recordings of missions (``real``) or films (``simulated``)."""
Split = Literal["train", "val", "test"]
Stage = Literal["source", "adapt", "target_supervised"]
"""One training stage of a run."""
Variant = Literal["source_only", "adapted", "target_supervised"]
"""One of the detectors of a run."""

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
"""The stage that trains the detector of each variant."""


class Prediction(NamedTuple):
    """The predictions of a detector for ``K`` people.

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
    """The identity of a keyframe: the name of the clip and the frame with the boxes (counted from 1)."""

    video_id: str
    frame_stamp: int


class PersonKey(NamedTuple):
    """The identity of a person: the keyframe, and the index of the person in the table of that keyframe (from 0).

    The key stays with the box through crops, drops, flips, rolls and concatenation. Stored values of a person are
    looked up by this key, never by the position in a batch.
    """

    keyframe: ClipKey
    place: int


@dataclass
class Clip:
    """The window around one keyframe, with its people and without labels: see :class:`LabelledClip`.

    Attributes:
        frames: ``(3, T, H, W)``, uint8 RGB in 0…255 or float already normalised.
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` in the frames as they are now.
        table_boxes: ``(K, 4)`` float, the boxes of the annotation table in [0, 1] of the original image, unaffected by
            transforms. Detections are written with these boxes.
        key: the keyframe.
        people: the people of the ``K`` boxes; by default the first ``K`` people of the keyframe.
        zoomed: whether decoding applied a random zoom; augmentation does not zoom such clips again.
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
        """Return the clip with ``(K, C)`` labels of its people."""
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
    """``B`` clips and their ``K`` people, without labels: see :class:`LabelledClipBatch`.

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
        clip_index: ``(K,)`` int64, ascending, the index of the clip of each box.
        table_boxes: ``(K, 4)`` float in [0, 1], the boxes of the annotation table.
        keys: the ``B`` keyframes.
        domain: the domain of the clips; ``"both"`` for a batch concatenated from both domains.
        people: the people of the ``K`` boxes; by default the first people of each keyframe. A person who is pasted into
            another clip keeps the original keyframe.
        zoomed: whether decoding applied a random zoom to each clip.

    Raises:
        ValueError: if the numbers of people and boxes differ, because people were dropped without :meth:`take_people`.
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
        """The number of people in all clips."""
        return len(self.boxes)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return a copy on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory, for asynchronous transfer to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def take_people(self, chosen: Tensor) -> Self:
        """Return the clips with some of their people and all values of these people.

        Args:
            chosen: ``(K,)`` bool mask of the people to keep, or ``(N,)`` int64 indices of these people, in order.
        """
        numbers = chosen if chosen.dtype.itemsize > 1 else chosen.nonzero()[:, 0]  # a boolean has one byte
        kept: dict[str, Any] = {name: getattr(self, name)[numbers] for name in self._of_people}
        return replace(self, **kept, people=tuple(self.people[number] for number in numbers.tolist()))

    def with_labels(self, labels: Tensor) -> LabelledClipBatch:
        """Return the batch with ``(K, C)`` labels of its people."""
        return LabelledClipBatch(**{**vars(self), "labels": labels})

    def without_labels(self) -> ClipBatch:
        """Return the batch without labels, as for unlabelled target data."""
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
    """Interface of a data set: the clips of one split by index, and their metadata.

    A data set that is opened with labels yields :class:`LabelledClip`, else :class:`Clip`.
    """

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def __getitem__(self, index: int) -> AnyClip:
        """Return the clip at ``index``."""
        ...

    @property
    def description(self) -> str:
        """One line that describes the data."""
        ...

    @property
    def keys(self) -> Sequence[ClipKey]:
        """The keyframe of each clip, in order."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second; None if unknown."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Notes on the data for readers of results, one line each."""
        ...

    @property
    def split_hash(self) -> str | None:
        """The hash of the split; None if the data has only one split."""
        ...

    def annotations(self) -> pd.DataFrame:
        """The annotation table of these clips, for evaluation; it has labels even if the clips have none."""
        ...

    def frame_sizes(self) -> np.ndarray | None:
        """``(N, 2)``: height and width of the frames of each clip, 0 if unknown; None if all sizes are equal."""
        ...

    def shortest_clip(self) -> int | None:
        """The number of frames of the shortest clip, before a window is cut; None if unknown."""
        ...

    def in_test_views(self) -> ClipSource[AnyClip]:
        """Return the same clips in their test views, which are not random."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the random views depend."""
        ...

    def skipped(self) -> pd.DataFrame:
        """The clips that could not be read: ``video_id, frame_stamp, reason``."""
        ...

    def ups(self) -> dict[PersonKey, float] | None:
        """Return the true up of each person in degrees clockwise from the top of the image, for evaluation only.

        None if unknown.
        """
        ...


def _number_people(keys: Sequence[ClipKey], clip_index: Tensor) -> Iterator[PersonKey]:
    """Return the first people of each keyframe, as many as the clip has boxes."""
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
