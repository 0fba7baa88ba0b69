"""JHMDB (Jhuang et al., "Towards understanding action recognition", ICCV 2013): one person and one action per clip.

A folder holds ``clips.csv`` (video_id, action, source_video, frames), ``people.csv`` (the person's box in every frame),
``masks/<video_id>.npz`` (the person's mask in every frame) and the clips as ``videos/`` or ``frames/``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import ANNOTATION_COLUMNS, SOURCE_VIDEO, read_boxes
from microg_da.data.dataset_files import DatasetFiles, find_table
from microg_da.data.masks import MASKS, read_mask_file
from microg_da.data.options import FileOptions
from microg_da.data.table_checks import Place, reject
from microg_da.errors import InputError, unknown_name
from microg_da.files import inside
from microg_da.taxonomy import get_taxonomy

CLIP_COLUMNS = ["video_id", "action", SOURCE_VIDEO, "frames"]


def read_jhmdb(root: Path, options: FileOptions, *, check_boxes: bool = True) -> DatasetFiles:
    """Find JHMDB's tables in a folder.

    The keyframes of a clip are spread evenly over the frames in which the person has a box; with one keyframe it is
    the middle one of them. The files define no split, so that the default scheme is ``by-source``.
    """
    clips, boxes = read_clips(root), read_person_frames(root)
    taxonomy = get_taxonomy("jhmdb21")
    people = _keyframes(boxes, options.keyframes).merge(clips, on="video_id")
    people["action_id"] = people.action.map(dict(zip(taxonomy.names, taxonomy.ids, strict=True)))
    people["person_id"] = 0
    without_box = clips.video_id[~clips.video_id.isin(boxes.video_id)]
    return DatasetFiles(
        root=root,
        annotations=people[[*ANNOTATION_COLUMNS, SOURCE_VIDEO]],
        taxonomy=taxonomy,
        published=pd.Series(np.nan, index=clips.video_id.to_numpy(object), dtype=object),
        footage=None,
        stamp="frames",
        start=0.0,
        cut=False,
        read_detected=None,
        notes=(f"{len(without_box)} clips without a person box are skipped, e.g. {without_box.iloc[0]}",)
        if len(without_box)
        else (),
        scheme="by-source",
    )


def read_clips(root: Path) -> pd.DataFrame:
    """Entries of ``clips.csv`` for each clip.

    Returns:
        ``video_id, action, source_video, frames``, one row per clip; ``frames`` is the number of frames.

    Raises:
        InputError: with file and row, for a missing table or an invalid value.
    """
    path = _table(root, "clips.csv")
    try:
        table = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig")
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}). Columns: {', '.join(CLIP_COLUMNS)}.") from error
    missing = [name for name in CLIP_COLUMNS if name not in table]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}. Expected: {', '.join(CLIP_COLUMNS)}.")
    where = Place(str(path), lambda row: row + 2)
    for name in CLIP_COLUMNS[:3]:
        reject(table[name].str.strip() == "", where, f"{name} is empty")
    reject(table.video_id.duplicated(), where, "video_id occurs in an earlier row; a clip has one action")
    reject(~table.frames.str.fullmatch(r"[1-9]\d{0,8}"), where, "frames is not a whole number of at least 1")
    actions = get_taxonomy("jhmdb21").names
    unknown = np.flatnonzero(~table.action.isin(actions))
    if unknown.size:
        raise unknown_name("action", table.action.iloc[unknown[0]], actions, f"{path}, line {unknown[0] + 2}")
    return table[CLIP_COLUMNS].astype({"frames": np.int64})


def read_person_frames(root: Path) -> pd.DataFrame:
    """The box of the person in every frame of every clip, from ``people.csv``.

    Returns:
        ``video_id, frame_stamp, x1, y1, x2, y2``: frames from 1, boxes in [0, 1], sorted by clip and frame.

    Raises:
        InputError: with file and row, if there is no such table, a value cannot be right, a clip or a frame is not
            that of ``clips.csv``, or a frame has two boxes.
    """
    path = _table(root, "people.csv")
    boxes = read_boxes(path).drop(columns="person_id", errors="ignore")
    frames = boxes.video_id.map(read_clips(root).set_index("video_id").frames)
    where = Place(str(path))
    reject(frames.isna(), where, "video_id is not in clips.csv")
    reject(
        ~boxes.frame_stamp.isin(range(1, 1 + int(frames.max() if len(frames) else 0))),
        where,
        "frame is not a frame number",
    )
    reject(boxes.frame_stamp > frames, where, "frame is beyond the number of frames in clips.csv")
    reject(boxes.duplicated(["video_id", "frame_stamp"]), where, "second box in one frame; a clip has one person")
    return boxes.sort_values(["video_id", "frame_stamp"], ignore_index=True)


def read_masks(root: Path, video_id: str) -> np.ndarray:
    """The mask of the person in every frame of a clip, from ``masks/<video_id>.npz``.

    The file holds ``bits`` (frames, height, ⌈width/8⌉) as ``numpy.packbits`` packs rows, and ``shape``. Nothing in it
    is unpickled.

    Returns:
        ``(frames, height, width)`` bool; frame number 1 is the first.

    Raises:
        InputError: if the file is missing, damaged, or inconsistent with ``shape``.
    """
    return read_mask_file(inside(Path(root) / MASKS, f"{video_id}.npz"))


def _keyframes(boxes: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the rows in the middle of ``count`` equal parts of each clip's frames with a box."""
    clip = boxes.groupby("video_id", sort=False)
    place, size = clip.cumcount().to_numpy(), clip.frame_stamp.transform("size").to_numpy()
    wanted = ((np.arange(count) + 0.5) * size[:, None] / count).astype(int)
    chosen: pd.DataFrame = boxes[(wanted == place[:, None]).any(axis=1)].reset_index(drop=True)
    return chosen


def _table(root: Path, name: str) -> Path:
    path = find_table(Path(root), name)
    if path is None:
        raise InputError(f"{root}: {name} not found. Give the folder of JHMDB with clips.csv and people.csv.")
    return path
