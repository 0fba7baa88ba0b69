"""The people in the middle frame of each clip: their table, what it resumes from, and the source that reads it."""

import numpy as np
import pandas as pd
import pytest

from microg_da.cli import main
from microg_da.data.annotations import read_boxes
from microg_da.data.sources import read_dataset_files
from microg_da.errors import InputError
from microg_da.video.keyframe_boxes import find_keyframe_boxes
from microg_da.video.person_detector import PersonBoxes


class Frames:
    """Frames of 40 × 80 pixels whose brightness is their number; ``c`` cannot be read."""

    def num_frames(self, video_id: str) -> int:
        return {"a": 9, "b": 4}.get(video_id, 5)

    def read(self, video_id: str, numbers: np.ndarray, min_short_side: int | None = None):
        if video_id == "c":
            raise InputError("c: damaged")
        return (np.full((40, 80, 3), number, np.uint8) for number in numbers.tolist())


class Detector:
    """One person in the left half, reaching out of the frame; nobody where frames are darker than ``least``."""

    def __init__(self, least: int = 0) -> None:
        self.least = least
        self.seen: list[int] = []

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        self.seen.append(int(image[0, 0, 0]))
        boxes = np.array([[-4.0, 10, 40, 44]]) if image[0, 0, 0] >= self.least else np.zeros((0, 4))
        return PersonBoxes(boxes, np.ones(len(boxes)), np.full(len(boxes), np.nan))


def test_boxes_of_the_middle_frame_are_clipped_fractions(tmp_path):
    detector = Detector()
    found = find_keyframe_boxes(["a", "b"], Frames(), detector, tmp_path / "boxes.csv", progress=False)
    assert detector.seen == [4, 2]
    assert (found.clips, found.boxes, found.looked_at, found.empty) == (2, 2, 2, 0)
    table = read_boxes(tmp_path / "boxes.csv")
    assert table.to_numpy().tolist() == [["a", 5, 0, 0.25, 0.5, 1], ["b", 3, 0, 0.25, 0.5, 1]]


def test_a_second_call_looks_at_clips_without_a_box(tmp_path):
    out = tmp_path / "boxes.csv"
    first = find_keyframe_boxes(["a", "b"], Frames(), Detector(least=3), out, progress=False)
    assert (first.clips, first.empty) == (1, 1)
    detector = Detector()
    second = find_keyframe_boxes(["a", "b"], Frames(), detector, out, progress=False)
    assert detector.seen == [2]
    assert (second.clips, second.looked_at) == (2, 1)


def test_what_was_found_before_an_error_is_kept(tmp_path):
    out = tmp_path / "boxes.csv"
    with pytest.raises(InputError, match="damaged"):
        find_keyframe_boxes(["a", "c", "b"], Frames(), Detector(), out, progress=False)
    assert read_boxes(out).video_id.tolist() == ["a"]


def test_nobody_anywhere_gives_an_empty_table(tmp_path):
    out = tmp_path / "boxes.csv"
    found = find_keyframe_boxes(["a"], Frames(), Detector(least=99), out, progress=False)
    assert (found.clips, found.boxes, found.empty) == (0, 0, 1)
    assert pd.read_csv(out).empty


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--from", "folder:X"], "--person-detector"),
        (["--from", "microg4m-release:X", "--person-detector", "x.onnx"], "--person-detector"),
        (["--from", "folder:", "--person-detector", "x.onnx"], "folder:ROOT"),
        (["--from", "folder:nowhere", "--person-detector", "x.onnx"], "nowhere"),
    ],
)
def test_requests_that_cannot_be(tmp_path, capsys, extra: list[str], message: str):
    assert main(["prepare", *extra, "--to", str(tmp_path / "boxes.csv")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "boxes.csv").exists()


@pytest.mark.data
def test_a_real_person_is_found(test_data, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    detector, video = test_data / "weights/yolox_nano/yolox_nano.onnx", test_data / "videos/pool_cleaning.mp4"
    if not (detector.is_file() and video.is_file()):
        pytest.skip("no person detector or video among the test inputs")
    (tmp_path / "clips" / "work").mkdir(parents=True)
    (tmp_path / "clips" / "work" / "pool.mp4").symlink_to(video)
    source = f"folder:{tmp_path / 'clips'}"
    table = tmp_path / "clips" / "boxes.csv"
    assert main(["prepare", "--from", source, "--to", str(table), "--person-detector", str(detector)]) == 0
    assert "boxes of 1 clips" in capsys.readouterr().out
    people = read_dataset_files(f"{source}?boxes=detected")[0].annotations
    assert people.frame_stamp.tolist() == [151] * len(people)
    assert people.action_id.unique().tolist() == [1]
