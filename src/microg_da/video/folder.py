"""Prediction of many videos into one folder, each done once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from microg_da.errors import InputError
from microg_da.files import replacing, write_json
from microg_da.terminal import print_table, progress_bar
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.box_sources import People
from microg_da.video.predict import SUMMARY, PredictOptions, predict_video
from microg_da.video.reader import Video

SETTINGS = "predict.json"


def predict_videos(
    paths: list[Path],
    people: Callable[[Video], People],
    scorer: ActionScorer,
    options: PredictOptions,
    output: str | Path,
    *,
    settings: dict[str, Any],
    console: Console,
) -> list[dict[str, Any]]:
    """Predict videos into ``output/<video_id>/`` and join their detections in ``output/detections.csv``.

    A video that was finished before with the same settings is not done again. Of several videos those that cannot be
    read are named and left out; a single one stops.

    Args:
        paths: the videos; no two of one name.
        people: says who is where in a video.
        scorer: says what they do.
        options: what is asked for.
        output: the folder of all results.
        settings: what else decides the results, to tell whether they can be kept.
        console: where to say what happens.

    Returns:
        what each ``video.json`` holds, in the order of ``paths``.

    Raises:
        InputError: if the folder holds results of other settings, or no video can be read.
    """
    output = Path(output)
    _claim(output / SETTINGS, {"detector": scorer.name, **asdict(options), **settings})
    done: list[dict[str, Any]] = []
    unreadable: list[str] = []
    with progress_bar(console) as bar:
        for path in paths:
            folder = output / path.stem
            try:
                done.append(_finished(folder) or _predict(path, people, scorer, options, folder, bar))
            except InputError as error:
                if len(paths) == 1:
                    raise
                unreadable.append(str(error))
                bar.console.print(f"left out: {error}", highlight=False, markup=False)
    if not done:
        raise InputError(f"none of {len(paths)} videos could be predicted; the first: {unreadable[0]}")
    join_tables([output / each["video_id"] / "detections.csv" for each in done], output / "detections.csv")
    return done


def join_tables(parts: Iterable[Path], path: Path) -> None:
    """Write several CSV files of one header as one, holding none of them."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for place, part in enumerate(parts):
            with part.open(encoding="utf-8") as lines:
                header = next(lines, "")
                if place == 0:
                    out.write(header)
                out.writelines(lines)


def print_summary(done: list[dict[str, Any]], console: Console) -> None:
    """One line for each video, and what a reader should know."""
    table = Table("video", "seconds", "keyframes", "persons", "detections")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in done:
        counts = (f"{each[name]:,}" for name in ("keyframes", "persons", "detections"))
        table.add_row(each["video_id"], f"{each['seconds']:.1f}", *counts)
    print_table(table, console)
    for each in done:
        notes = list(each["faults"])
        if not each["persons"]:
            notes.append("no person was found: there is nothing to score")
        for note in notes:
            console.print(f"{each['video_id']}: {note}", highlight=False, markup=False)


def _predict(
    path: Path,
    people: Callable[[Video], People],
    scorer: ActionScorer,
    options: PredictOptions,
    folder: Path,
    bar: Progress,
) -> dict[str, Any]:
    video = Video(path)
    readings = 1 if options.video_format == "none" else 2
    task = bar.add_task(video.video_id, total=readings * video.seconds if video.seconds else None)
    try:
        return predict_video(
            video,
            people(video),
            scorer,
            options,
            folder,
            advance=lambda seconds: bar.update(task, completed=seconds),
        )
    finally:
        bar.remove_task(task)


def _finished(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _claim(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix the results of two settings in one folder."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(path, settings)
        return
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read. Choose another --output.") from error
    now = json.loads(json.dumps(settings))
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        was = ", ".join(f"{name}={before.get(name)!r}" for name in changed)
        raise InputError(f"{path.parent} holds predictions made with other settings ({was}). Choose another --output.")
