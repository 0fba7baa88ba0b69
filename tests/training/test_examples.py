"""The keyframes that a report shows: chosen by labels alone, with what each detector said of each person."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import pandas as pd
import pytest
import torch

from microg_da.data.annotations import write_annotations, write_detections
from microg_da.files import write_json
from microg_da.runs.folder import Run
from microg_da.training import examples
from microg_da.training.examples import choose_keyframes, write_examples
from microg_da.types import Clip, ClipKey


def labels(*actions: set[int]) -> pd.DataFrame:
    """One person in each of some keyframes."""
    corners = {"x1": 0.1, "y1": 0.2, "x2": 0.123456789, "y2": 0.9}
    return pd.DataFrame([
        {"video_id": f"v_{number}", "frame_stamp": 45, **corners, "action_id": action, "person_id": 0}
        for number, carried in enumerate(actions)
        for action in sorted(carried)
    ])  # fmt: skip


def test_every_next_keyframe_shows_what_was_not_shown():
    truth = labels({12}, {12}, {12, 59}, {12}, {80}, {12, 17})
    assert [key[0] for key in choose_keyframes(truth, 3)] == ["v_2", "v_5", "v_4"]
    assert len(choose_keyframes(truth, 100)) == 6
    assert choose_keyframes(truth.iloc[:0], 3) == []


@pytest.fixture
def run(tmp_path) -> Run:
    """A run whose target test has two keyframes and a person in each."""
    run = Run(tmp_path, SimpleNamespace())
    truth = labels({12, 59}, {14})
    for domain in ("source", "target"):
        write_annotations(truth, run.ground_truth_file(domain))
        said = truth.drop(columns="person_id").drop_duplicates(["video_id"]).assign(score=math.log(3))
        write_detections(said, run.detections_file("source_only", domain))
    return run


class Clips(list):
    """Clips of the two keyframes, brighter frame by frame."""

    keys = (ClipKey("v_0", 45), ClipKey("v_1", 45))

    def __init__(self) -> None:
        frames = torch.arange(4, dtype=torch.uint8)[None, :, None, None].expand(3, 4, 6, 8) * 60
        super().__init__(Clip(frames, torch.zeros(1, 4), torch.zeros(1, 4), key) for key in self.keys)


def test_people_are_written_with_truth_and_predictions(run):
    write_examples(run, SimpleNamespace(get=lambda *_, **__: Clips()))
    listed = pd.read_json(run.path / "examples" / "examples.json", orient="records").to_dict("records")
    assert [(entry["domain"], entry["video_id"]) for entry in listed] == [
        ("target", "v_0"), ("target", "v_1"), ("source", "v_0"), ("source", "v_1")
    ]  # fmt: skip
    (person,) = listed[0]["people"]
    assert person["true"] == [12, 59]
    assert person["source_only"] == {"12": 0.75}
    assert "adapted" not in person
    image = cv2.imread(str(run.path / "examples" / listed[0]["image"]))
    assert image.shape == (6, 8, 3)
    assert image.mean() == pytest.approx(120)  # frame T // 2
    assert len(listed[0]["frames"]) == 4


def test_examples_that_are_there_stay(run):
    write_json(run.path / "examples" / "examples.json", [])
    write_examples(run, SimpleNamespace())
    assert (run.path / "examples" / "examples.json").read_text() == "[]\n"


def test_numbers_of_keyframes_are_those_promised():
    assert sum(examples.EXAMPLES.values()) <= 200
