"""Facts about a data set on disk, independent of its layout: labels, splits, footage, frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from microg_da.data import SCHEMES
from microg_da.data.annotations import SOURCE_VIDEO, source_videos
from microg_da.data.frames import FrameStore, JpegFolders, VideoFiles, find_videos
from microg_da.data.options import FileOptions
from microg_da.data.splits import Division, make_split, read_split
from microg_da.errors import InputError, unknown_name
from microg_da.taxonomy import Taxonomy
from microg_da.types import SPLITS, Split

Stamp = Literal["frames", "seconds", "clips"]


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on disk.

    Attributes:
        root: its folder.
        annotations: every labelled person of every split; with the column ``source_video`` where the data set names
            the source video of a clip.
        taxonomy: the data set's own action ids.
        published: the split of each ``video_id`` in the files of the data set; NaN if undefined.
        footage: ``"real"`` or ``"simulated"`` for each ``video_id``, if known.
        stamp: the unit of ``frame_stamp``: frames from 1, or seconds; ``clips`` is frames from 1, and 0 for the middle.
        start: the time of the first stored frame, in seconds.
        fps: frames per second, if the data set defines it and its frames do not.
        cut: whether videos are clips cut from source videos. Names of clips then contain the source video, unless a
            column names it.
        actions: the actions of people in each clip, with or without a box, if the data set has such a table.
        read_detected: reads the unlabelled boxes of a person detector; None if there are none.
        notes: notes on the data for readers of results, one line each.
        scheme: the split scheme if the SOURCE does not name one.
        open_frames: opens the frames, given the option ``decode``; None for the usual folders in the root.
    """

    root: Path
    annotations: pd.DataFrame
    taxonomy: Taxonomy
    published: pd.Series
    footage: pd.Series | None
    stamp: Stamp
    start: float
    cut: bool
    read_detected: Callable[[], pd.DataFrame] | None
    actions: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    scheme: str = "published"
    open_frames: Callable[[str], FrameStore] | None = None
    fps: float | None = None

    @cached_property
    def sources(self) -> pd.Series:
        """The source video of every ``video_id``."""
        if SOURCE_VIDEO in self.annotations:
            clips = self.annotations.drop_duplicates("video_id").sort_values("video_id")
            return pd.Series(clips[SOURCE_VIDEO].to_numpy(), index=clips.video_id.to_numpy(), dtype=object)
        ids = pd.Series(sorted(self.annotations.video_id.unique()), dtype=object)
        return pd.Series((source_videos(ids) if self.cut else ids).to_numpy(), index=ids.to_numpy(), dtype=object)

    def scheme_of(self, options: FileOptions) -> str:
        """Return the split scheme or split file of the options."""
        return self.scheme if options.scheme == "auto" else options.scheme

    def split(self, options: FileOptions) -> Division:
        """Return the division of the options."""
        scheme = self.scheme_of(options)
        if not SCHEMES.knows(scheme):
            if not Path(scheme).is_file():
                raise unknown_name("split scheme or split file", scheme, SCHEMES)
            return read_split(scheme)
        return make_split(
            scheme,
            self.annotations,
            sources=self.sources,
            footage=self.footage,
            published=self.published,
            seed=options.split_seed,
            folds=options.folds,
            fold=options.fold,
        )

    def frames(self, decode: str = "auto") -> FrameStore:
        """Open the frames of the data set."""
        if self.open_frames is not None:
            return self.open_frames(decode)
        folders, videos = self.root / "frames", self.root / "videos"
        if decode == "frames" or (decode == "auto" and folders.is_dir()):
            return JpegFolders(folders)
        if decode == "video" or videos.is_dir():
            return VideoFiles(find_videos(videos))
        raise InputError(
            f"{self.root}: has neither frames/ (folders of JPEG) nor videos/. Give a folder that contains one of them."
        )


def find_table(root: Path, *names: str) -> Path | None:
    """Return the first of the given files that exists in the folder of a data set or in its annotations folder."""
    places = (root / folder / name for name in names for folder in (".", "annotations", "annotation_files"))
    return next((path for path in places if path.is_file()), None)


def published_splits(tables: dict[Split, pd.DataFrame]) -> pd.Series:
    """The split of each ``video_id`` from one annotation table per split.

    Raises:
        InputError: if a clip is in two splits.
    """
    clips = {split: tuple(sorted(tables[split].video_id.unique())) if split in tables else () for split in SPLITS}
    return Division("published", clips).splits
