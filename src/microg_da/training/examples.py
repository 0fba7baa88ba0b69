"""Keyframes for the report: pictures, people, truth, and what each detector said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from microg_da.data.annotations import KEYFRAME, read_annotations, read_detections
from microg_da.data.datamodule import DomainDatasets
from microg_da.files import replacing, write_json
from microg_da.runs.folder import Run
from microg_da.types import Clip

EXAMPLES = {"target": 36, "source": 12}
"""How many keyframes of each domain the report shows."""


def write_examples(run: Run, datasets: DomainDatasets) -> None:
    """Write ``examples/examples.json`` and its pictures, unless they are there.

    The keyframes are chosen to show as many classes as possible, by their labels and never by the scores.
    """
    folder = run.path / "examples"
    if (folder / "examples.json").exists():
        return
    examples = []
    for domain, count in EXAMPLES.items():
        dataset = datasets.get(domain, "test", labelled=False)  # type: ignore[arg-type]
        truth = read_annotations(run.ground_truth_file(domain))
        rows = ("source_only", "adapted", "target_supervised")
        files = {row: run.detections_file(row, domain) for row in rows}
        chosen = choose_keyframes(truth, count)
        detections = {
            row: _probabilities(_of_keyframes(read_detections(file), chosen))
            for row, file in files.items()
            if file.exists()
        }
        positions = {(key.video_id, key.frame_stamp): index for index, key in enumerate(dataset.keys)}
        for number, key in enumerate(chosen):
            clip = dataset[positions[key]]
            pictures = _write_pictures(clip, folder, f"{domain}_{number:02d}")
            people = _people(truth, key, detections)
            where = {"domain": domain, "video_id": key[0], "frame_stamp": key[1]}
            examples.append({**where, **pictures, "people": people})
    write_json(folder / "examples.json", examples)


def choose_keyframes(truth: pd.DataFrame, count: int) -> list[tuple[str, int]]:
    """Up to ``count`` keyframes, each next one adding the most actions not shown yet (then not shown often)."""
    actions = {key: frozenset(group) for key, group in truth.groupby(["video_id", "frame_stamp"])["action_id"]}
    shown: dict[int, int] = {}
    chosen: list[tuple[str, int]] = []
    while actions and len(chosen) < count:
        best = max(actions, key=lambda key: sum(0.5 ** shown.get(action, 0) for action in actions[key]))
        for action in actions.pop(best):
            shown[action] = shown.get(action, 0) + 1
        chosen.append(best)  # type: ignore[arg-type]
    return chosen


def _of_keyframes(detections: pd.DataFrame, keyframes: list[tuple[str, int]]) -> pd.DataFrame:
    return detections[pd.MultiIndex.from_frame(detections[KEYFRAME]).isin(keyframes)]


def _probabilities(detections: pd.DataFrame) -> pd.DataFrame:
    return detections.assign(probability=1 / (1 + np.exp(-detections["score"].clip(-60, 60))))


def _people(truth: pd.DataFrame, key: tuple[str, int], rows: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The people of one keyframe with their true actions and, for each detector, the probability of each action."""
    here = truth[(truth["video_id"] == key[0]) & (truth["frame_stamp"] == key[1])]
    corners = ["x1", "y1", "x2", "y2"]
    said = {row: table[(table["video_id"] == key[0]) & (table["frame_stamp"] == key[1])] for row, table in rows.items()}
    people = []
    for box, actions in here.groupby(corners, sort=False):
        person: dict[str, Any] = {"box": list(box), "true": sorted(int(action) for action in actions["action_id"])}
        for row, table in said.items():
            # Boxes went through a file with fewer digits, so that they are compared with some tolerance.
            mine = table[np.isclose(table[corners].to_numpy(), np.array(box), atol=2e-3).all(axis=1)]
            person[row] = {
                int(action): round(float(value), 4)
                for action, value in zip(mine["action_id"], mine["probability"], strict=True)
            }
        people.append(person)
    return people


def _write_pictures(clip: Clip, folder: Path, name: str) -> dict[str, Any]:
    """The middle frame as PNG, all frames as JPEG."""
    frames = clip.frames.permute(1, 2, 3, 0).numpy()[..., ::-1]
    with replacing(folder / f"{name}.png") as temporary:
        cv2.imwrite(str(temporary), frames[len(frames) // 2])
    files = []
    for index, frame in enumerate(frames):
        files.append(f"{name}_{index:02d}.jpg")
        with replacing(folder / files[-1]) as temporary:
            cv2.imwrite(str(temporary), frame, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return {"image": f"{name}.png", "frames": files}
