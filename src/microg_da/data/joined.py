"""Several data sets as one, for training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import cast

import numpy as np
import pandas as pd
from torch.utils.data import ConcatDataset, Dataset

from microg_da.data.source_videos import source_videos_of
from microg_da.types import Clip, ClipKey, ClipSource, PersonKey


def shared_source_videos(first: ClipSource[Clip], second: ClipSource[Clip]) -> list[str]:
    """Return the source videos of which both data sets have clips, sorted."""
    tables = (first.annotations(), second.annotations())
    videos = [set(source_videos_of(table, table)) for table in tables]
    return sorted(videos[0] & videos[1])


class JoinedClips(ConcatDataset[Clip]):
    """The clips of several data sets, one after another.

    Args:
        parts: at least one data set.

    Example:
        >>> from microg_da import open_dataset
        >>> from microg_da.data.joined import JoinedClips
        >>> parts = [open_dataset(f"synthetic:{name}?num_clips=2&workers=0") for name in ("earth", "microgravity")]
        >>> clips = JoinedClips(parts)
        >>> len(clips), clips[2].key == parts[1][0].key
        (4, True)
    """

    def __init__(self, parts: Sequence[ClipSource[Clip]]) -> None:
        super().__init__([cast("Dataset[Clip]", part) for part in parts])
        self.parts = tuple(parts)

    @property
    def description(self) -> str:
        """The descriptions of all parts."""
        return "; ".join(part.description for part in self.parts)

    @property
    def keys(self) -> list[ClipKey]:
        """The keyframe of each clip, in order."""
        return list(chain.from_iterable(part.keys for part in self.parts))

    @property
    def fps(self) -> float | None:
        """The frame rate of the first part."""
        return self.parts[0].fps

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes on all parts."""
        return tuple(chain.from_iterable(part.warnings for part in self.parts))

    @property
    def split_hash(self) -> str | None:
        """The hash of the split of the first part."""
        return self.parts[0].split_hash

    def annotations(self) -> pd.DataFrame:
        """The rows of all parts."""
        return pd.concat([part.annotations() for part in self.parts], ignore_index=True)

    def frame_sizes(self) -> np.ndarray | None:
        """``(N, 2)``: height and width of the frames of each clip; None if all sizes are equal."""
        sizes = [part.frame_sizes() for part in self.parts]
        if all(size is None for size in sizes):
            return None
        known = zip(sizes, self.parts, strict=True)
        return np.concatenate([np.zeros((len(part), 2), int) if size is None else size for size, part in known])

    def shortest_clip(self) -> int | None:
        """The number of frames of the shortest clip."""
        return min((length for part in self.parts if (length := part.shortest_clip()) is not None), default=None)

    def in_test_views(self) -> JoinedClips:
        """Return the same clips in test views."""
        return JoinedClips([part.in_test_views() for part in self.parts])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of all parts."""
        for part in self.parts:
            part.set_epoch(epoch)

    def skipped(self) -> pd.DataFrame:
        """The clips of all parts that could not be read."""
        return pd.concat([part.skipped() for part in self.parts], ignore_index=True)

    def ups(self) -> dict[PersonKey, float] | None:
        """None: people of different parts can have the same key."""
        return None
