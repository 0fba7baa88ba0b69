"""Conversion of MicroG-4M as released to a training tree: JPEG frames, one keyframe per person, splits, frame lists."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from microg_da.data.annotations import write_annotations
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.frames import VideoFiles, find_videos
from microg_da.data.options import FileOptions
from microg_da.data.splits import Division, write_split
from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.terminal import message_console, progress_bar
from microg_da.types import SPLITS, Split

JPEG_QUALITY = 95
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class Prepared:
    """Result of :func:`prepare`.

    Attributes:
        division: the split of the clips.
        extracted: clips whose frames were written.
        present: clips whose frames already existed.
        skipped: unreadable clips with the reason; they are in no table.
    """

    division: Division
    extracted: int
    present: int
    skipped: dict[str, str]


def prepare(
    files: DatasetFiles,
    options: FileOptions,
    out: str | Path,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Write a training tree that this package and PySlowFast read.

    Frames are written first and tables last. A folder of frames gets its name when it is complete, so that an
    interrupted command can continue, and a tree with tables is complete.

    Args:
        files: MicroG-4M as released, from :func:`microg_da.data.sources.read_dataset_files`.
        options: the split, and whether to skip unreadable clips.
        out: the folder of the training tree.
        jobs: number of videos that are decoded at once; None for the number of cores.
        progress: show a bar on standard error.

    Raises:
        InputError: if a video is missing or damaged and ``on_error`` is ``raise``, or ``out`` cannot be written.
    """
    out = Path(out)
    division = files.split(options)
    videos = VideoFiles(find_videos(files.root / "videos"))
    clips = sorted(set(files.annotations.video_id))
    frames = out / "frames"
    _make_folder(frames)
    skipped = videos.missing(clips)
    if skipped and options.on_error == "raise":
        raise InputError(
            f"{next(iter(skipped.values()))} ({len(skipped)} videos are missing; --on-error skip ignores them)"
        )
    todo = [clip for clip in clips if clip not in skipped and not (frames / clip).is_dir()]
    present = len(clips) - len(skipped) - len(todo)
    for clip, error in _extract_all(videos, todo, frames, jobs or os.cpu_count() or 1, progress):
        if options.on_error == "raise":
            raise error
        skipped[clip] = str(error)
    _write_tables(files, division, out, skipped)
    return Prepared(division, len(clips) - len(skipped) - present, present, skipped)


def extract_frames(videos: VideoFiles, clip: str, frames: Path) -> None:
    """Write ``<clip>/<clip>_000001.jpg`` …, either all frames or none.

    Raises:
        InputError: if the video cannot be decoded to its end.
    """
    partial = frames / f"{_PARTIAL}{clip}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        numbers = np.arange(videos.num_frames(clip))
        for number, image in enumerate(videos.read(clip, numbers), start=1):
            path = partial / f"{clip}_{number:06d}.jpg"
            if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise InputError(f"{path}: cannot write the file. The disk may be full.")
        partial.replace(frames / clip)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract_all(
    videos: VideoFiles, clips: list[str], frames: Path, jobs: int, progress: bool
) -> Iterator[tuple[str, InputError]]:
    """Extract with several threads (decoding and writing release the GIL); yield the failures."""
    console = message_console()
    console.quiet = not progress
    with progress_bar(console) as bar, ThreadPoolExecutor(jobs) as pool:
        task = bar.add_task("extracting frames", total=len(clips))
        waiting: dict[Future[None], str] = {}
        queue = iter(clips)
        try:
            while True:
                for clip in queue:
                    waiting[pool.submit(extract_frames, videos, clip, frames)] = clip
                    if len(waiting) >= 2 * jobs:
                        break
                if not waiting:
                    return
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    clip, error = waiting.pop(done), done.exception()
                    bar.advance(task)
                    if isinstance(error, InputError):
                        yield clip, error
                    elif error is not None:
                        raise error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_tables(files: DatasetFiles, division: Division, out: Path, skipped: dict[str, str]) -> None:
    annotations = files.annotations[~files.annotations.video_id.isin(skipped)]
    split = annotations.video_id.map(division.splits)
    for name in SPLITS:
        _write_frame_list(out, name, sorted(set(annotations.video_id[split == name])))
        write_annotations(annotations[split == name], out / "annotations" / f"ava_{name}.csv", header=False)
    write_split(division, out / "annotations" / "split.json")
    if files.actions is not None:
        actions = files.actions.rename(columns={"domain": "movie_or_real", "action_id": "action"})
        actions["movie_or_real"] = actions.movie_or_real.map({"real": "r", "simulated": "m"})
        _write_csv(actions, out / "annotations" / "actions.csv")


def _write_frame_list(out: Path, split: Split, clips: list[str]) -> None:
    """Write PySlowFast's list of all frames, with columns separated by a space and an empty label."""
    rows = [
        (clip, clip, number, f"{clip}/{path.name}", "")
        for clip in clips
        for number, path in enumerate(sorted((out / "frames" / clip).iterdir()))
    ]
    columns = ["original_video_id", "video_id", "frame_id", "path", "labels"]
    _write_csv(pd.DataFrame(rows, columns=columns), out / "frame_lists" / f"{split}.csv", sep=" ")


def _write_csv(table: pd.DataFrame, path: Path, sep: str = ",") -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, sep=sep, lineterminator="\n")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make {folder}: {error.strerror or error}. Choose a folder with write permission."
        ) from error
