"""AVA v2.1/v2.2 in PySlowFast's tree, and custom data sets in the same format."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME, read_annotations, read_keyframes
from microg_da.data.dataset_files import DatasetFiles, Stamp, find_table, published_splits
from microg_da.data.options import FileOptions
from microg_da.data.splits import hold_out
from microg_da.errors import InputError
from microg_da.files import write_json
from microg_da.taxonomy import get_taxonomy
from microg_da.types import SPLITS, Split

# AVA annotates minutes 15 to 30, and its videos are stored cut to them.
START = 900.0
FACTS = "dataset.json"


def read_ava(root: Path, options: FileOptions, *, check_boxes: bool = True) -> DatasetFiles:
    """Find the tables of AVA, or of a data set in its format, in a folder.

    Annotations are ``annotations/ava_{train,val,test}_v2.2.csv`` or ``…_v2.1.csv``, ``ava_….csv``, ``train.csv`` …;
    ``label_map.pbtxt`` in the same folder defines the action ids if they are not AVA's. Keyframes listed in
    ``ava_…_excluded_timestamps….csv`` are excluded. ``dataset.json`` may define the unit of keyframes.
    """
    label_map, facts = find_table(root, "label_map.pbtxt"), _read_facts(root)
    taxonomy = get_taxonomy(label_map or "ava80")
    paths = {split: find_table(root, *_names("ava_{}{}.csv", split), f"{split}.csv") for split in SPLITS}
    tables = {
        split: read_annotations(path, taxonomy=taxonomy, check_boxes=check_boxes)
        for split, path in paths.items()
        if path
    }
    if not tables:
        raise InputError(
            f"{root}: found no AVA annotations. Expected annotations/ava_train_v2.2.csv, ava_train.csv or train.csv, "
            f"and the same for val and test."
        )
    excluded = _excluded(root)
    published, note = _published(tables)
    return DatasetFiles(
        root=root,
        annotations=without(pd.concat(tables.values(), ignore_index=True), excluded),
        taxonomy=taxonomy,
        published=published,
        footage=None,
        stamp=facts.stamp if options.stamp == "auto" else "frames" if options.stamp == "frames" else "seconds",
        start=facts.start if options.start is None else options.start,
        fps=facts.fps,
        cut=False,
        read_detected=lambda: without(read_predicted_boxes(root), excluded),
        notes=(note,) if note else (),
    )


@dataclass(frozen=True)
class Facts:
    """Contents of ``annotations/dataset.json``; the defaults are AVA's.

    Attributes:
        stamp: the unit of keyframes: ``"seconds"``, or ``"frames"`` counted from 1.
        start: the time of the first stored frame, in seconds.
        fps: frames per second, where all videos have the same.
    """

    stamp: Stamp = "seconds"
    start: float = START
    fps: float | None = None


def write_facts(facts: Facts, root: Path) -> None:
    """Write ``annotations/dataset.json``.

    Raises:
        InputError: if it cannot be written.
    """
    write_json(root / "annotations" / FACTS, asdict(facts))


def _read_facts(root: Path) -> Facts:
    path = find_table(root, FACTS)
    if path is None:
        return Facts()
    try:
        facts = Facts(**json.loads(path.read_text(encoding="utf-8-sig")))
        numbers = [facts.start, 1.0 if facts.fps is None else facts.fps]
        right = facts.stamp in ("seconds", "frames") and bool(np.isfinite(numbers).all()) and numbers[1] > 0
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}). Expected JSON with stamp, start and fps.") from error
    if not right:
        raise InputError(f"{path}: expected a stamp of 'seconds' or 'frames', a number start, and fps above 0 or null.")
    return facts


def read_predicted_boxes(root: Path) -> pd.DataFrame:
    """The people that a detector found, from ``ava_{train,val,test}_predicted_boxes.csv``.

    Their columns are ``video, keyframe, x1, y1, x2, y2, (nothing), score``, without a header.

    Returns:
        ``video_id, frame_stamp, x1, y1, x2, y2, score``, boxes clipped to [0, 1].

    Raises:
        InputError: if there is no such file, or its format is wrong.
    """
    names = [f"{prefix}{split}_predicted_boxes.csv" for split in SPLITS for prefix in ("ava_", "")]
    paths = [path for path in (find_table(root, name) for name in names) if path]
    if not paths:
        raise InputError(
            f"{root}: boxes=detected needs a file such as annotations/{names[0]}. Add it, or use boxes=ground-truth."
        )
    return pd.concat([_read_boxes(path) for path in paths], ignore_index=True)


def _read_boxes(path: Path) -> pd.DataFrame:
    columns = [*KEYFRAME, *BOX, "action_id", "score"]
    try:
        table = pd.read_csv(path, header=None, names=columns, dtype={"video_id": str}, encoding="utf-8-sig")
        numbers = table[["frame_stamp", *BOX, "score"]].apply(pd.to_numeric).astype(float)
    except (ValueError, TypeError, OverflowError, OSError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a table of detected boxes ({error}). Columns: {', '.join(columns)}.") from error
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy()).all(axis=1))
    if bad.size:
        raise InputError(f"{path}, row {bad[0] + 1}: a number is missing or not finite. Columns: {', '.join(columns)}.")
    numbers[BOX] = numbers[BOX].clip(0, 1)
    if (numbers.frame_stamp % 1 == 0).all():
        numbers["frame_stamp"] = numbers.frame_stamp.astype(np.int64)
    boxes: pd.DataFrame = pd.concat([table.video_id, numbers], axis=1)
    return boxes


def without(table: pd.DataFrame, keyframes: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are at none of some keyframes."""
    drop = pd.MultiIndex.from_frame(table[KEYFRAME]).isin(pd.MultiIndex.from_frame(keyframes[KEYFRAME]))
    return table[~drop].reset_index(drop=True)


def _published(tables: dict[Split, pd.DataFrame]) -> tuple[pd.Series, str | None]:
    """Return the split of each video, and a note if the files do not define three splits.

    AVA publishes no labels of test videos; results are reported on its validation videos. These are therefore the test
    split, and an eighth of the training videos is the val split, so that selection does not use the reported videos.
    """
    if set(tables) != {"train", "val"} or tables["train"].video_id.nunique() < 2:
        return published_splits(tables), None
    splits = published_splits({"train": tables["train"], "test": tables["val"]})
    validate = hold_out(tables["train"])
    splits[list(validate)] = "val"
    return splits, f"the files have no test split: val is used as test, and {len(validate)} videos of train as val"


def _excluded(root: Path) -> pd.DataFrame:
    paths = [find_table(root, *_names("ava_{}_excluded_timestamps{}.csv", split)) for split in SPLITS]
    return pd.concat([read_keyframes(path) for path in paths if path] or [pd.DataFrame(columns=KEYFRAME)])


def _names(pattern: str, split: Split) -> list[str]:
    return [pattern.format(split, version) for version in ("_v2.2", "_v2.1", "")]
