"""Prediction of many videos into one folder. Finished videos are not predicted again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeGuard

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from microg_da.data.score_kinds import declare_scores
from microg_da.errors import InputError
from microg_da.files import replacing, write_json
from microg_da.terminal import print_table, progress_bar
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.box_sources import BoxSource
from microg_da.video.predict import SUMMARY, PredictOptions, VideoFacts, predict_video
from microg_da.video.reader import Video
from microg_da.video.stills import open_input

SETTINGS = "predict.json"
_SUMMARISED: dict[str, type | tuple[type, ...]] = {
    **{"video_id": str, "faults": list, "seconds": (int, float)},
    **dict.fromkeys(("keyframes", "persons", "detections"), int),
}
"""Keys that the summary of a finished video must have."""


def predict_videos(
    paths: list[Path],
    boxes_of: Callable[[Video], BoxSource],
    scorer: ActionScorer,
    options: PredictOptions,
    output: str | Path,
    *,
    settings: Mapping[str, object],
    console: Console,
) -> list[VideoFacts]:
    """Predict videos and stills into ``output/<video_id>/`` and join their detections in ``output/detections.csv``.

    A video that was finished with the same settings is not predicted again. Unreadable videos are reported and skipped;
    if no video is readable, an error is raised.

    Args:
        paths: the videos and stills, with unique names.
        boxes_of: returns the source of boxes of a video.
        scorer: predicts the actions.
        options: the options of the prediction.
        output: the folder of all results.
        settings: other settings that affect results, to check whether results can be reused.
        console: the console for messages.

    Returns:
        The content of each ``video.json``, in the order of ``paths``.

    Raises:
        InputError: if the folder contains results of other settings, or no video can be read.
    """
    output = Path(output)
    settings = {"detector": scorer.name, **asdict(options), **settings}
    check_settings(output / SETTINGS, settings)
    done: list[VideoFacts] = []
    unreadable: list[str] = []
    with progress_bar(console) as bar:
        for place, path in enumerate(paths, start=1):
            folder = output / path.stem
            title = f"{path.stem} ({place} of {len(paths)})" if len(paths) > 1 else path.stem
            try:
                if (before := _finished(folder)) is None:
                    video = open_input(path)
                    boxes = boxes_of(video)
                    # The folder is created after a video opens, so that no folder is left if nothing is readable.
                    write_json(output / SETTINGS, settings)
                    before = _predict(video, boxes, scorer, options, folder, bar, title)
                done.append(before)
            except InputError as error:
                if len(paths) == 1:
                    raise
                unreadable.append(str(error))
                bar.console.print(f"skipped: {error}", highlight=False, markup=False)
    if not done:
        raise InputError(f"none of {len(paths)} files can be predicted. First error: {unreadable[0]}")
    joined = output / "detections.csv"
    join_tables([output / each["video_id"] / joined.name for each in done], joined)
    declare_scores(joined, "probability")
    return done


def join_tables(parts: Iterable[Path], path: Path) -> None:
    """Join several CSV files with the same header into one file, without loading them into memory."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for place, part in enumerate(parts):
            with part.open(encoding="utf-8") as lines:
                header = next(lines, "")
                if place == 0:
                    out.write(header)
                out.writelines(lines)


def print_summary(done: list[VideoFacts], console: Console, hint: str = "") -> None:
    """Print one line for each file, and notes; ``hint`` is printed if a file has no detected person."""
    table = Table("file", "seconds", "keyframes", "persons", "detections")
    table.columns[0].overflow = "fold"  # full names, to distinguish the rows
    for column in table.columns[1:]:
        column.justify = "right"
    for each in done:
        counts = (each["keyframes"], each["persons"], each["detections"])
        seconds = "still" if each.get("still") else f"{each['seconds']:.1f}"
        table.add_row(each["video_id"], seconds, *(f"{count:,}" for count in counts))
    print_table(table, console)
    for each in done:
        notes = list(each["faults"])
        if not each["persons"]:
            notes.append("no person was detected, so no action was predicted")
        for note in notes:
            console.print(f"{each['video_id']}: {note}", highlight=False, markup=False)
    if hint and not all(each["persons"] for each in done):
        console.print(hint, highlight=False, markup=False)
    if any(each.get("still") for each in done):
        console.print(
            "In a still all frames of the window are equal: scores of actions that need motion are less reliable.",
            highlight=False,
        )


def _predict(
    video: Video,
    boxes: BoxSource,
    scorer: ActionScorer,
    options: PredictOptions,
    folder: Path,
    bar: Progress,
    title: str,
) -> VideoFacts:
    readings = 1 if options.video_format == "none" else 2
    task = bar.add_task(title, total=readings * video.seconds if video.seconds else None)
    try:
        return predict_video(
            video,
            boxes,
            scorer,
            options,
            folder,
            advance=lambda seconds: bar.update(task, completed=seconds),
        )
    finally:
        bar.remove_task(task)


def _finished(folder: Path) -> VideoFacts | None:
    """Return the stored summary of a video; None if the video is not finished or the file is damaged."""
    try:
        facts: object = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return facts if _is_complete(facts) and facts["video_id"] == folder.name else None


def _is_complete(facts: object) -> TypeGuard[VideoFacts]:
    return isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in _SUMMARISED.items())


def check_settings(path: Path, settings: Mapping[str, object]) -> None:
    """Check that a folder has no results of other settings.

    Args:
        path: the file in which an earlier call stored its settings; it need not exist.
        settings: the settings that are known so far.

    Raises:
        InputError: if a setting differs from the stored setting.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot read the file. Choose another --output.") from error
    if not isinstance(before, dict):
        raise InputError(f"{path}: expected one JSON object, found {type(before).__name__}. Choose another --output.")
    now = json.loads(json.dumps(dict(settings)))
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        was = ", ".join(f"{name}={before.get(name)!r}" for name in changed)
        raise InputError(f"{path.parent} contains predictions with other settings ({was}). Choose another --output.")
