"""A data set of clips whose feature maps are in a feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.data.feature_store import StoredEntry
from microg_da.errors import InputError
from microg_da.transforms.stored_frames import AS_FILMED, StoredClip, StoredFrames, StoredView
from microg_da.types import Clip, ClipKey, ClipSource, Domain, PersonKey, Split


@runtime_checkable
class StorableClips(ClipSource[Clip], Protocol):
    """Interface of a data set whose feature maps can be stored."""

    @property
    def draws_at_random(self) -> bool:
        """Whether training draws random crops."""
        ...

    def fingerprint(self) -> str:
        """Return text that changes if the clips, their boxes or their views change.

        It does not depend on labels or on the seed of a run. Nothing is decoded.

        Raises:
            InputError: if the data cannot detect changes.
        """
        ...

    def training_draw(self, number: int) -> ClipSource[Clip]:
        """Return the clips in training views; random values depend only on the number."""
        ...

    def labels_of(self, index: int) -> Tensor | None:
        """``(K, C)`` of all people of a keyframe in the order of the table; None without labels."""
        ...


class StoredMaps(Protocol):
    """Replaces frames of data sets by feature maps."""

    def as_tested(self, domain: Domain, split: Split, clips: ClipSource[Clip]) -> ClipSource[Clip]:
        """Return the clips in test views, with maps in place of frames."""
        ...

    def as_trained(self, domain: Domain, clips: ClipSource[Clip], augment: AugmentConfig) -> ClipSource[Clip]:
        """Return the augmented training clips, with maps in place of frames."""
        ...


class StoredViews:
    """The entries of one data set under several views; a :class:`~microg_da.transforms.stored_frames.MapReader`.

    Args:
        entries: entries by view, including the view as filmed.
        about: a description of the clips, for error messages.
    """

    def __init__(self, entries: Mapping[StoredView, StoredEntry], about: str) -> None:
        self.entries = dict(entries)
        self.about = about

    def maps(self, row: int, view: StoredView) -> tuple[Tensor, ...]:
        """See :meth:`MapReader.maps <microg_da.transforms.stored_frames.MapReader.maps>`."""
        if view not in self.entries:
            known = "; ".join(map(str, sorted(self.entries)))
            raise InputError(
                f"data.feature_store: a method needs {self.about} under {view}, which is not stored ({known}). The "
                f"method must name the view in its attribute stored_views."
            )
        return self.entries[view].maps(row)

    def clip(self, row: int, key: ClipKey, labels: Tensor | None) -> Clip:
        """Return one clip, with the labels of the people in the frame."""
        record = self.entries[AS_FILMED].record(row)
        frames = StoredFrames([StoredClip(self, row, record.shape)], batched=False)
        clip = Clip(
            frames=cast("Tensor", frames),
            boxes=torch.from_numpy(record.boxes),
            table_boxes=torch.from_numpy(record.table_boxes),
            key=key,
            people=tuple(PersonKey(key, place) for place in record.places),
        )
        return clip if labels is None else clip.with_labels(labels[list(record.places)])


class StoredClips:
    """A data set with feature maps in place of frames; a :class:`~microg_da.types.ClipSource`.

    Args:
        clips: the encoded data set, of which no frames are read.
        draws: the entries; each clip is drawn from a random entry, by seed and epoch.
        seed: the seed of the run.
    """

    def __init__(self, clips: StorableClips, draws: Sequence[StoredViews], seed: int = 0) -> None:
        self._clips = clips
        self._draws = draws
        self._seed = seed
        self._epoch = 0
        self._keys = tuple(clips.keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Clip:
        """The clip at ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        draw = 0
        if len(self._draws) > 1:
            draw = int(np.random.default_rng((self._seed, self._epoch, index)).integers(len(self._draws)))
        return self._draws[draw].clip(index, self._keys[index], self._clips.labels_of(index))

    @property
    def description(self) -> str:
        """One line about the data."""
        return self._clips.description

    @property
    def keys(self) -> tuple[ClipKey, ...]:
        """The keyframe of each clip, in order."""
        return self._keys

    @property
    def fps(self) -> float | None:
        """As filmed."""
        return self._clips.fps

    @property
    def warnings(self) -> Sequence[str]:
        """Those of the data."""
        return self._clips.warnings

    @property
    def split_hash(self) -> str | None:
        """That of the data."""
        return self._clips.split_hash

    def annotations(self) -> pd.DataFrame:
        """The annotation table, for evaluation."""
        return self._clips.annotations()

    def frame_sizes(self) -> np.ndarray | None:
        """``(N, 2)``: height and width of the frames that were encoded; None if all have one size."""
        sizes = self._draws[0].entries[AS_FILMED].frame_sizes()
        return None if len(np.unique(sizes, axis=0)) <= 1 else sizes

    def shortest_clip(self) -> int | None:
        """As filmed."""
        return self._clips.shortest_clip()

    def in_test_views(self) -> ClipSource[Clip]:
        """Return the encoded data set in test views, with frames."""
        return self._clips.in_test_views()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the draws depend."""
        self._epoch = epoch

    def skipped(self) -> pd.DataFrame:
        """Those of the data."""
        return self._clips.skipped()

    def ups(self) -> dict[PersonKey, float] | None:
        """Those of the data."""
        return self._clips.ups()


def storable(clips: ClipSource[Clip]) -> StorableClips:
    """Return the data set as :class:`StorableClips`.

    Raises:
        InputError: if it lacks a method of :class:`StorableClips`.
    """
    if not isinstance(clips, StorableClips):
        raise InputError(
            f"data.feature_store: {clips.description} cannot detect changes: its class {type(clips).__name__} "
            "lacks the methods of microg_da.data.stored_clips.StorableClips. Set data.feature_store=null."
        )
    return clips
