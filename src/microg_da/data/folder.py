"""A folder of clips with one directory per class, as in Kinetics, UCF101, HMDB51, ARID and Daily-DA.

``ROOT/CLASS/clip.mp4``, or ``ROOT/train/CLASS/clip.mp4``, also with ``val`` and ``test``. A clip is a video file or
a folder of numbered JPEG frames, and has one label, which applies to all people in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import ANNOTATION_COLUMNS, BOX, KEYFRAME, SOURCE_VIDEO, read_boxes
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.frames import VIDEO_SUFFIXES, FrameStore, JpegFolders, VideoFiles
from microg_da.data.options import FileOptions
from microg_da.data.splits import hold_out
from microg_da.errors import InputError, nearest
from microg_da.taxonomy import class_folders, class_names, split_folders, taxonomy_of_classes

BOX_TABLE = "boxes.csv"
"""The file that ``boxes=detected`` reads and ``prepare --from folder:ROOT`` writes."""

MIDDLE = 0
"""The frame stamp of a clip's middle frame; other stamps count frames from 1."""

_KNOWN_NAMES = {
    "UCF101's groups (_gNN)": r".+_g\d+(?=_c\d+$)",
    "HMDB51's names": r".+(?=_{action}_[fhlu]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+$)",
    "Kinetics' names": r"^.{{11}}(?=_\d{{6}}_\d{{6}}$)",
}
"""Patterns that find the source video in the file names of known data sets."""


def read_folder(root: Path, options: FileOptions, *, check_boxes: bool = True) -> DatasetFiles:
    """Find the clips of a folder with one directory per class.

    Boxes are the whole frame at the middle of each clip, or those of a table: ``boxes=detected`` for ``boxes.csv`` in
    the folder, ``boxes=FILE`` for another table. A clip without a box in the table keeps the whole frame; a note gives
    the number of these clips.

    Raises:
        InputError: if there are no clips, two clips have the same name, class and split, or a table is invalid.
    """
    clips, decoded, notes = find_clips(root, options.decode)
    videos, how = _source_videos(clips, options.source_video, str(root))
    clips[SOURCE_VIDEO] = videos
    people, box_notes = _people(clips, _box_table(root, options.boxes))
    published, split_notes = _published(clips, people)
    places = dict(zip(clips.video_id, clips.path, strict=True))
    return DatasetFiles(
        root=root,
        annotations=people,
        taxonomy=taxonomy_of_classes(class_names(root), str(root)),
        published=published,
        footage=None,
        stamp="clips",
        start=0.0,
        cut=False,
        read_detected=None,
        notes=(*notes, how, *split_notes, *box_notes),
        scheme="published" if published.notna().all() else "by-source",
        open_frames=lambda decode: _frames(root, places, decoded),
    )


def find_clips(root: Path, decode: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The clips of a folder.

    Args:
        root: the folder.
        decode: ``"video"``, ``"frames"``, or ``"auto"`` for frames where there is no video file.

    Returns:
        ``video_id, action_id, action, stem, split, path``, one row a clip, sorted; what is to be decoded, ``"video"``
        or ``"frames"``; and notes. A ``video_id`` is the file's name without its suffix; where two clips share it, each
        of these has class and split in front.

    Raises:
        InputError: if there is no clip, or two clips have the same name.
    """
    names = class_names(root)
    folders = [(split, folder) for split, part in split_folders(root).items() for folder in class_folders(part)]
    unlisted = sorted({folder.name for _, folder in folders} - set(names))
    found = {kind: _entries(folders, names, kind) for kind in ("video", "frames") if decode in (kind, "auto")}
    decoded = next((kind for kind, rows in found.items() if rows), None)
    if decoded is None:
        kinds = {"video": f"video files ({', '.join(VIDEO_SUFFIXES)})", "frames": "folders of JPEG frames"}
        raise InputError(f"{root}: the class folders contain no {' and no '.join(kinds[kind] for kind in found)}.")
    clips = pd.DataFrame(found[decoded], columns=["split", "action", "stem", "path"])
    clips["action_id"] = clips.action.map({name: number for number, name in enumerate(names, start=1)})
    clips["video_id"] = _ids(clips)
    twice = clips[clips.video_id.duplicated(keep=False)]
    if len(twice):
        raise InputError(f"{twice.path.iloc[0]} and {twice.path.iloc[1]}: two clips have the same name; rename one.")
    notes = (f"folders that classes.txt does not list are left out: {', '.join(unlisted)}",) if unlisted else ()
    return clips.sort_values("video_id", ignore_index=True), decoded, notes


def _entries(folders: list[tuple[str, Path]], names: tuple[str, ...], kind: str) -> list[tuple[str, str, str, str]]:
    """Split, class, name and path of each clip of a kind."""
    listed = [(split, folder, path) for split, folder in folders if folder.name in names for path in _sorted(folder)]
    if kind == "video":
        chosen = [(each, each[2].stem) for each in listed if each[2].suffix.lower() in VIDEO_SUFFIXES]
    else:
        chosen = [(each, each[2].name) for each in listed if each[2].is_dir()]
    return [(split, folder.name, stem, str(path)) for (split, folder, path), stem in chosen]


def _sorted(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _ids(clips: pd.DataFrame) -> pd.Series:
    """Return the name of each clip, with class and split if the name alone is not unique."""
    longer = clips.action + "--" + clips.stem
    longest = (clips.split + "--" + longer).where(clips.split != "", longer)
    ids = clips.stem.where(~clips.stem.duplicated(keep=False), longer)
    return ids.where(~ids.duplicated(keep=False), longest)


def _source_videos(clips: pd.DataFrame, pattern: str | None, root: str) -> tuple[pd.Series, str]:
    """The source video of each clip, and how it was found.

    Raises:
        InputError: if the pattern is invalid, or does not match a clip.
    """
    if pattern is not None:
        return _matched(clips, pattern, f"folder:{root}"), f"source videos: by source_video={pattern}"
    for name, known in _KNOWN_NAMES.items():
        patterns = {action: known.format(action=re.escape(action)) for action in map(str, clips.action.unique())}
        pairs = zip(clips.action.tolist(), clips.stem.tolist(), strict=True)
        found = [re.search(patterns[action], stem) for action, stem in pairs]
        if all(found):
            videos = pd.Series([match[0] for match in found if match], index=clips.index, dtype=object)
            return videos, f"source videos: {videos.nunique()} of {len(clips)} clips, by {name}"
    return clips.video_id, (
        "source videos are not known: every clip counts as its own. Clips cut from one video may be in two splits; "
        "name them by source_video=PATTERN, a regular expression whose first group is the source video"
    )


def _matched(clips: pd.DataFrame, pattern: str, where: str) -> pd.Series:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{where}: source_video={pattern}: not a regular expression: {error}") from error
    found = [expression.search(stem) for stem in clips.stem]
    videos = [match[min(1, expression.groups)] if match else None for match in found]
    if None in videos or "" in videos:
        missed = next(stem for stem, video in zip(clips.stem, videos, strict=True) if not video)
        raise InputError(f"{where}: source_video={pattern} finds no source video in the name {missed!r}")
    return pd.Series(videos, index=clips.index, dtype=object)


def _box_table(root: Path, boxes: str) -> Path | None:
    if boxes in ("auto", "whole"):
        return None
    path = root / BOX_TABLE if boxes == "detected" else Path(boxes).expanduser()
    if not path.is_file():
        raise InputError(
            f"boxes={boxes}: there is no file {path}. `python -m microg_da prepare --from folder:{root} --to {path} "
            f"--person-detector yolox.onnx` writes it."
        )
    return path


def _people(clips: pd.DataFrame, table: Path | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return annotations (boxes of a table, and whole frames for clips without a box) and notes."""
    whole = clips.assign(frame_stamp=MIDDLE, x1=0.0, y1=0.0, x2=1.0, y2=1.0, person_id=0)
    columns = [*ANNOTATION_COLUMNS, SOURCE_VIDEO]
    if table is None:
        return whole[columns], ()
    boxes = read_boxes(table)
    known = boxes[boxes.video_id.isin(clips.video_id)].copy()
    if known.empty:
        first = boxes.video_id.iloc[0] if len(boxes) else None
        guess = nearest(str(first), clips.video_id)
        hint = f", e.g. {first!r}. Did you mean {guess!r}?" if guess else ""
        raise InputError(f"{table}: contains no clip of the folder{hint} Name clips by their file name without suffix.")
    if (known.frame_stamp % 1 != 0).any() or (known.frame_stamp < 1).any():
        raise InputError(f"{table}: frame_stamp counts frames from 1; found {known.frame_stamp.min():g}")
    known["person_id"] = known.groupby(KEYFRAME).cumcount()
    known = known[[*KEYFRAME, *BOX, "person_id"]].merge(clips[["video_id", "action_id", SOURCE_VIDEO]], on="video_id")
    without = whole[~whole.video_id.isin(known.video_id)]
    people = pd.concat([known[columns], without[columns]], ignore_index=True)
    notes: tuple[str, ...] = (f"boxes of {table}",)
    if len(without):
        notes += (f"{len(without)} of {len(clips)} clips have no box in {table.name}: the whole frame is their box",)
    return people.sort_values(["video_id", "frame_stamp"], kind="stable", ignore_index=True), notes


def _published(clips: pd.DataFrame, people: pd.DataFrame) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the split of each clip by its folder, NaN without split folders, and notes."""
    splits = pd.Series(clips.split.to_numpy(object), index=clips.video_id.to_numpy(object), dtype=object)
    there = set(clips.split)
    if not {"train"} < there:
        return splits.map(lambda _: np.nan).astype(object), ()
    if len(there) == 3:
        return splits, ()
    (evaluated,) = there - {"train"}
    train = people[people.video_id.isin(splits.index[splits == "train"])]
    validate = hold_out(train, sources=clips.set_index("video_id")[SOURCE_VIDEO])
    splits[splits == evaluated] = "test"
    splits[list(validate)] = "val"
    return splits, (
        f"the folder has no third split: {evaluated} is used as test, {len(validate)} clips of train as val",
    )


def _frames(root: Path, places: Mapping[str, str], decoded: str) -> FrameStore:
    if decoded == "video":
        return VideoFiles({clip: Path(path) for clip, path in places.items()})
    return JpegFolders(root, {clip: str(Path(path).relative_to(root)) for clip, path in places.items()})
