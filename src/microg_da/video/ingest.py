"""Conversion of new footage into clips with tracked people for labelling, in the layout of the MicroG-4M release.

``DIR/sources/`` has one folder of detections for each video, and ``DIR/labels/`` one file of labels for each clip. Each
call rebuilds the tables under ``DIR/annotation_files/`` from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from microg_da.data.annotations import BOX, PERSON_BOX_COLUMNS
from microg_da.errors import InputError, nearest
from microg_da.files import replacing, write_json
from microg_da.taxonomy import get_taxonomy
from microg_da.terminal import print_table, progress_bar
from microg_da.video.clipping import CLIP_FRAMES, cut_into_clips
from microg_da.video.cvat import LabelledClip, read_tracks, write_labels, write_tracks
from microg_da.video.person_boxes import PersonDetector
from microg_da.video.reader import Video
from microg_da.video.tracks import collapses_as_faults

FOOTAGE = {"real": "r", "simulated": "m"}
_RELEASE_NAMES = ["video_id", "frame_id", "person_id", "xmin", "ymin", "xmax", "ymax"]


def ingest(
    paths: list[Path],
    detector: PersonDetector,
    output: str | Path,
    *,
    footage: str = "real",
    settings: Mapping[str, object] | None = None,
    console: Console,
) -> pd.DataFrame:
    """Cut videos into clips with tracked people. Finished videos are not cut again.

    Args:
        paths: the source videos, with unique names.
        detector: the person detector.
        output: the folder of the data set.
        footage: ``real`` for recordings of missions, ``simulated`` for films.
        settings: other settings that affect the results; they are stored with the results.
        console: the console for progress.

    Returns:
        ``clips.csv``: every piece of every video, kept or dropped.

    Raises:
        InputError: if a video cannot be read, or the folder contains another video with the same name.
    """
    output = Path(output)
    with progress_bar(console) as bar:
        for path in paths:
            video = Video(path)
            facts = {"path": str(path), "bytes": path.stat().st_size, "footage": footage, **(settings or {})}
            folder = output / "sources" / video.video_id
            if _done_before(folder, facts):
                continue
            task = bar.add_task(video.video_id, total=video.seconds)
            advance = partial(_advance, bar, task)
            with collapses_as_faults(video.faults):
                clipped = cut_into_clips(video, detector, output / "videos", advance)
            bar.remove_task(task)
            for fault in video.faults:
                bar.console.print(f"{path}: {fault}", highlight=False, markup=False, soft_wrap=True)
            _write_csv(clipped.clips, folder / "clips.csv")
            _write_csv(clipped.boxes, folder / "boxes.csv")
            _write_tasks(clipped.clips, clipped.boxes, output / "cvat")
            write_json(folder / "source.json", {**facts, "faults": video.faults})
    return write_tables(output)


def take_labels(paths: list[Path], output: str | Path) -> list[LabelledClip]:
    """Import labels from CVAT. Boxes and actions in the files replace those of the same clips.

    Raises:
        InputError: if a file is not from CVAT, or its clip is not in the folder.
    """
    output = Path(output)
    known = set(_sources(output).video_id)
    labelled = [clip for path in paths for clip in read_tracks(path, get_taxonomy("microg50"))]
    for clip in labelled:
        if clip.video_id not in known:
            guess = nearest(clip.video_id, known)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise InputError(f"{output}: the labelled clip {clip.video_id!r} does not exist in this folder.{hint}")
    for clip in labelled:
        write_json(
            output / "labels" / f"{clip.video_id}.json",
            {"boxes": clip.boxes.to_dict("list"), "actions": clip.actions.to_dict("list")},
        )
    write_tables(output)
    return labelled


def write_tables(output: Path) -> pd.DataFrame:
    """Write ``clips.csv`` and ``annotation_files/`` from detections and labels; return the clips."""
    clips = _sources(output)
    boxes = [_read_csv(path) for path in sorted((output / "sources").glob("*/boxes.csv"))]
    found = pd.concat([pd.DataFrame(columns=PERSON_BOX_COLUMNS), *(each for each in boxes if len(each))])
    footage = clips.set_index("video_id").footage
    tables, actions = [], []
    for path in sorted((output / "labels").glob("*.json")):
        labels = json.loads(path.read_text(encoding="utf-8"))
        found = found[found.video_id != path.stem]
        tables.append(pd.DataFrame(labels["boxes"]))
        actions.append(pd.DataFrame(labels["actions"]).assign(video_id=path.stem))
    found = pd.concat([found, *(table for table in tables if len(table))])[PERSON_BOX_COLUMNS]
    found[BOX] = found[BOX].astype(float).round(2)
    found = found.sort_values(["video_id", "frame_stamp", "person_id"], kind="stable")
    folder = output / "annotation_files"
    _write_csv(found.set_axis(_RELEASE_NAMES, axis=1), folder / "bounding_boxes.csv")
    if actions:
        table = pd.concat(actions)
        table = table.assign(movie_or_real=table.video_id.map(footage).map(FOOTAGE)).rename(
            columns={"action_id": "action"}
        )
        _write_csv(table[["video_id", "movie_or_real", "person_id", "action"]], folder / "actions.csv")
    _write_csv(clips, output / "clips.csv")
    return clips


def print_clips(clips: pd.DataFrame, console: Console) -> None:
    """Print one line for each source video, with the reasons for dropped pieces."""
    table = Table("source video", "clips", "persons", "dropped", "reasons")
    for source, rows in clips.groupby("source", sort=True):
        kept = rows[rows.kept]
        reasons = rows.reason[~rows.kept].value_counts()
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        table.add_row(str(source), f"{len(kept):,}", f"{kept.persons.sum():,}", f"{len(rows) - len(kept):,}", why)
    print_table(table, console)


def _read_facts(path: Path) -> dict[str, Any]:
    """Read the record of a source video; version 0.1 wrote the key ``footage`` as ``domain``."""
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts if "footage" in facts else facts | {"footage": facts["domain"]}


def _sources(output: Path) -> pd.DataFrame:
    """Return the clips of all finished source videos."""
    tables = []
    for path in sorted((output / "sources").glob("*/source.json")):
        facts = _read_facts(path)
        clips = _read_csv(path.parent / "clips.csv")
        tables.append(clips.assign(source=path.parent.name, footage=facts["footage"]))
    if not tables:
        raise InputError(f"{output}: the folder has no clips. Cut videos first: `ingest VIDEO… --output {output}`.")
    return pd.concat(tables, ignore_index=True)


def _done_before(folder: Path, facts: dict[str, object]) -> bool:
    try:
        before = _read_facts(folder / "source.json")
    except FileNotFoundError:
        return False
    changed = [name for name, value in json.loads(json.dumps(facts)).items() if before.get(name) != value]
    if changed:
        was = ", ".join(f"{name}={before.get(name)!r}" for name in changed)
        raise InputError(
            f"{facts['path']}: {folder} contains a video with this name, cut with other settings ({was}). "
            f"Rename the video, choose another --output, or delete that folder."
        )
    return True


def _advance(bar: Progress, task: TaskID, seconds: float) -> None:
    bar.update(task, completed=seconds)


def _write_tasks(clips: pd.DataFrame, boxes: pd.DataFrame, folder: Path) -> None:
    taxonomy = get_taxonomy("microg50")
    write_labels(taxonomy, folder / "labels.json")
    kept = clips[clips.kept]
    for video_id, height, width in zip(kept.video_id, kept.height, kept.width, strict=True):
        persons = boxes[boxes.video_id == video_id]
        write_tracks(video_id, persons, (int(height), int(width)), CLIP_FRAMES, taxonomy, folder / f"{video_id}.xml")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"video_id": str}, keep_default_na=False)
