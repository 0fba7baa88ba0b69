"""Keyframes for the report: pictures, people, ground truth, and the predictions of each detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME, read_annotations, read_detections
from microg_da.data.datamodule import DomainDatasets
from microg_da.files import replacing
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, write_example_list
from microg_da.runs.folder import Run
from microg_da.types import VARIANTS, Clip, Domain, Variant

EXAMPLES: dict[Domain, int] = {"target": 36, "source": 12}
"""The number of keyframes of each domain in the report."""


def write_examples(run: Run, datasets: DomainDatasets) -> None:
    """Write ``examples/examples.json`` and its pictures, unless they exist.

    The keyframes are chosen to show as many classes as possible. The choice uses labels only, not scores.
    """
    if run.examples_file.exists():
        return
    folder = run.examples_file.parent
    examples = []
    for domain, count in EXAMPLES.items():
        dataset = datasets.get(domain, "test", labelled=False)
        truth = read_annotations(run.ground_truth_file(domain))
        chosen = choose_keyframes(truth, count)
        files = {variant: run.detections_file(variant, domain) for variant in VARIANTS}
        detections = {
            variant: _probabilities(_of_keyframes(read_detections(file), chosen))
            for variant, file in files.items()
            if file.exists()
        }
        positions = {(key.video_id, key.frame_stamp): index for index, key in enumerate(dataset.keys)}
        for number, key in enumerate(chosen):
            clip = dataset[positions[key]]
            image, frames = _write_pictures(clip, folder, f"{domain}_{number:02d}")
            people = _people(truth, key, detections)
            examples.append(ExampleKeyframe(domain, key[0], key[1], image, frames, people))
    write_example_list(examples, run.examples_file)


def choose_keyframes(truth: pd.DataFrame, count: int) -> list[tuple[str, int]]:
    """Choose up to ``count`` keyframes. Each adds the most actions that are not shown yet, then the rarely shown."""
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


def _people(
    truth: pd.DataFrame, key: tuple[str, int], detections: Mapping[Variant, pd.DataFrame]
) -> tuple[ExamplePerson, ...]:
    """The people of one keyframe with their true actions and, for each variant, the probability of each action."""
    here = _at(truth, key)
    tables = {variant: _at(table, key) for variant, table in detections.items()}
    people = []
    for box, actions in here.groupby(BOX, sort=False):
        predictions = {}
        for variant, table in tables.items():
            # Files store boxes with fewer digits, so boxes are compared with a tolerance.
            mine = table[np.isclose(table[BOX].to_numpy(), np.array(box), atol=2e-3).all(axis=1)]
            predictions[variant] = {
                int(action): round(float(value), 4)
                for action, value in zip(mine["action_id"], mine["probability"], strict=True)
            }
        true = tuple(sorted(int(action) for action in actions["action_id"]))
        people.append(ExamplePerson(box, true, predictions))  # type: ignore[arg-type]
    return tuple(people)


def _at(table: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    return table[(table["video_id"] == key[0]) & (table["frame_stamp"] == key[1])]


def _write_pictures(clip: Clip, folder: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Write the middle frame as PNG and all frames as JPEG; return their names."""
    frames = clip.frames.permute(1, 2, 3, 0).numpy()[..., ::-1]
    with replacing(folder / f"{name}.png") as temporary:
        cv2.imwrite(str(temporary), frames[len(frames) // 2])
    files = []
    for index, frame in enumerate(frames):
        files.append(f"{name}_{index:02d}.jpg")
        with replacing(folder / files[-1]) as temporary:
            cv2.imwrite(str(temporary), frame, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"{name}.png", tuple(files)
