"""MicroG-4M (Wen et al., ICLR 2026): as released, as a training tree, or only its tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import (
    ANNOTATION_COLUMNS,
    BOX,
    read_actions,
    read_annotations,
    read_person_boxes,
    source_videos,
)
from microg_da.data.ava import read_predicted_boxes
from microg_da.data.dataset_files import DatasetFiles, find_table, published_splits
from microg_da.data.frames import VideoFiles, find_videos
from microg_da.data.options import FileOptions
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy
from microg_da.types import SPLITS, Split

# The six films; the other 42 source videos are recordings of missions. Only used without actions.csv.
FILMS = frozenset({"Apollo13", "Gravity", "ISS", "Interstellar", "TheMartian", "TheWanderingEarthII"})

DECIMALS = 3


def read_microg4m(root: Path, options: FileOptions, *, check_boxes: bool = True) -> DatasetFiles:
    """Find MicroG-4M's tables in a folder.

    Three layouts are valid: the training tree (``annotations/ava_{train,val,test}.csv``), the table of all
    clips with the evaluated splits next to it (``ava_format_with_header.csv``, ``ava_{val,test}_gt.csv``), and the
    release (``annotation_files/actions.csv`` and ``bounding_boxes.csv``, ``videos/``), whose boxes are in pixels and
    which names no splits.
    """
    read = partial(read_annotations, taxonomy=get_taxonomy("microg50"), check_boxes=check_boxes)
    paths = {split: find_table(root, f"ava_{split}.csv", f"ava_{split}_gt.csv", f"{split}.csv") for split in SPLITS}
    tables = {split: read(path) for split, path in paths.items() if path}
    actions = _actions(root)
    annotations = _annotations(root, read, tables, actions)
    return DatasetFiles(
        root=root,
        annotations=annotations,
        taxonomy=get_taxonomy("microg50"),
        published=_published(annotations, tables),
        footage=_footage(annotations, actions),
        stamp="frames",
        start=0.0,
        cut=True,
        read_detected=lambda: read_predicted_boxes(root),
        actions=actions,
    )


def keyframe_annotations(actions: pd.DataFrame, boxes: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Join the actions of people with their boxes at one frame per person.

    The keyframe of a person is the frame with a box that is nearest to the median of these frames; for ties, the first
    in the table.

    Args:
        actions: from :func:`microg_da.data.annotations.read_actions`.
        boxes: from :func:`microg_da.data.annotations.read_person_boxes`, in pixels.
        sizes: ``height`` and ``width`` of each clip in pixels, indexed by ``video_id``.

    Returns:
        An annotation table in the order of ``boxes`` and, for each person, of ``actions``; boxes in [0, 1] with three
        decimals. People without a box or without an action are dropped.
    """
    unknown = boxes.video_id[~boxes.video_id.isin(sizes.index)]
    if len(unknown):
        raise InputError(
            f"{unknown.nunique()} clips have boxes in pixels but no frames that give the size, e.g. {unknown.iloc[0]}"
        )
    person = boxes.groupby(["video_id", "person_id"], sort=False).frame_stamp
    distance = (boxes.frame_stamp - person.transform("median")).abs()
    nearest = distance.groupby([boxes.video_id, boxes.person_id], sort=False).idxmin()
    keyframes = boxes.loc[np.sort(nearest.to_numpy())].copy()
    size = sizes.loc[keyframes.video_id, ["width", "height", "width", "height"]].to_numpy()
    keyframes[BOX] = (keyframes[BOX].to_numpy() / size).round(DECIMALS)
    return keyframes.merge(actions, on=["video_id", "person_id"])[ANNOTATION_COLUMNS]


def clip_sizes(videos: VideoFiles, video_ids: list[str]) -> pd.DataFrame:
    """Height and width of each clip, from its file."""
    sizes = [videos.frame_size(video) for video in video_ids]
    return pd.DataFrame(sizes, columns=["height", "width"], index=pd.Index(video_ids, name="video_id"))


def _annotations(
    root: Path, read: Callable[[Path], pd.DataFrame], tables: dict[Split, pd.DataFrame], actions: pd.DataFrame | None
) -> pd.DataFrame:
    """Return all labelled boxes, from the tables that exist."""
    whole = find_table(root, "ava_format_with_header.csv", "ava_with_head.csv")
    if whole:
        return read(whole)
    boxes = find_table(root, "bounding_boxes.csv")
    if actions is not None and boxes and "train" not in tables:
        people = read_person_boxes(boxes)
        sizes = clip_sizes(VideoFiles(find_videos(root / "videos")), sorted(set(people.video_id)))
        return keyframe_annotations(actions, people, sizes)
    if tables:
        return pd.concat(tables.values(), ignore_index=True)
    raise InputError(
        f"{root}: found no MicroG-4M tables. Expected annotations/ava_train.csv, ava_format_with_header.csv, "
        f"or the release's annotation_files/actions.csv and bounding_boxes.csv, in this folder or in annotations/."
    )


def _actions(root: Path) -> pd.DataFrame | None:
    path = find_table(root, "actions.csv", "actions_final.csv")
    return read_actions(path) if path else None


def _published(annotations: pd.DataFrame, tables: dict[Split, pd.DataFrame]) -> pd.Series:
    ids = annotations.video_id.unique()
    if not tables:
        return pd.Series(np.nan, index=ids, dtype=object)
    named = published_splits(tables)
    # The authors publish only the ground truth of val and test; all other clips are train.
    rest = "train" if {"val", "test"} <= set(tables) and "train" not in tables else np.nan
    return named.reindex(ids, fill_value=rest)


def _footage(annotations: pd.DataFrame, actions: pd.DataFrame | None) -> pd.Series:
    if actions is not None:
        return actions.drop_duplicates("video_id").set_index("video_id").domain
    ids = pd.Series(annotations.video_id.unique(), dtype=object)
    simulated = source_videos(ids).isin(FILMS).to_numpy()
    return pd.Series(np.where(simulated, "simulated", "real"), index=ids.to_numpy())
