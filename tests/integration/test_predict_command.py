"""`predict`: from a weight file and a video to detections and a picture."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.data.annotations import read_detections
from microg_da.models.detector import create_detector
from microg_da.runs.detectors import describe_detector

pytest.importorskip("av")

BOXES = [("walk", s, 0.1 + 0.1 * s, 0.2, 0.4 + 0.1 * s, 0.9, 1) for s in (0.0, 0.5, 1.0, 1.5)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A video, boxes of somebody in it, and the file that a run leaves of an untrained network."""
    from microg_da.video.writer import Mp4Writer

    folder = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    with Mp4Writer(folder / "walk.mp4", (96, 128), 30) as writer:
        for number in range(60):
            writer.add(rng.integers(0, 255, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1), number / 30)
    pd.DataFrame(BOXES, columns=["video_id", "timestamp", "x1", "y1", "x2", "y2", "person_id"]).to_csv(
        folder / "boxes.csv", index=False
    )
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny")
    config = load_config("ava2microg", ["model=r2plus1d_tiny", "model.num_frames=4", "model.sampling_rate=4"])
    content = describe_detector(config).as_dict() | {"state_dict": detector.state_dict()}
    torch.save(content, folder / "tiny.pt")
    del content["roi_stride"]
    torch.save(content, folder / "old.pt")
    torch.save(detector.state_dict(), folder / "weights.pth")
    return folder


def predict(*words):
    return main(["predict", *map(str, words), "--device", "cpu"])


def test_boxes_of_a_table(files, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--checkpoint", files / "tiny.pt", "--video", files / "walk.mp4", "--boxes", files / "boxes.csv"]
    words += ["--output", out, "--threshold", "0"]
    assert predict(*words) == 0
    assert str(out / "detections.csv") in capsys.readouterr().out
    detections = read_detections(out / "detections.csv")
    assert len(detections) == 4 * 50
    assert set(detections.video_id) == {"walk"}
    assert sorted(set(detections.frame_stamp)) == [0.0, 0.5, 1.0, 1.5]
    np.testing.assert_allclose(sorted(set(detections.x1)), [0.1, 0.15, 0.2, 0.25])
    assert json.loads((out / "walk" / "video.json").read_text())["rendered"] == "walk.mp4"
    made = (out / "walk" / "walk.mp4").stat().st_mtime_ns
    assert predict(*words) == 0  # done before, and kept
    assert (out / "walk" / "walk.mp4").stat().st_mtime_ns == made
    assert predict(*words[:-1], "0.5") == 2
    assert "made with other settings (threshold=0.0)" in capsys.readouterr().err
    # The same weights, named by hand.
    words = ["--checkpoint", files / "weights.pth", "--model", "r2plus1d_tiny", *words[2:6], "--threshold", "0"]
    assert predict(*words, "--video-format", "none", "--output", tmp_path / "other") == 0
    assert not list((tmp_path / "other").rglob("*.mp4"))


def test_a_damaged_summary_is_made_again_and_damaged_settings_are_named(files, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--checkpoint", files / "tiny.pt", "--video", files / "walk.mp4", "--boxes", files / "boxes.csv"]
    words += ["--output", out, "--video-format", "none"]
    assert predict(*words) == 0
    summary = out / "walk" / "video.json"
    facts = summary.read_text()
    for damaged in ("[]", "3", '{"video_id": "walk"}', facts.replace('"walk"', '"../walk"', 1), "[" * 9999):
        summary.write_text(damaged)
        assert predict(*words) == 0
        assert summary.read_text() == facts
    for damaged in ("[]", "null", "[" * 9999):
        (out / "predict.json").write_text(damaged)
        assert predict(*words) == 2
        assert "predict.json" in capsys.readouterr().err


@pytest.mark.data
def test_a_person_detector_on_real_footage(files, test_data, tmp_path, capsys):
    for package in ("onnxruntime", "norfair"):
        pytest.importorskip(package)
    words = ["--checkpoint", files / "tiny.pt", "--video", test_data / "videos" / "pool_cleaning.mp4"]
    words += ["--detector", test_data / "weights" / "yolox_nano" / "yolox_nano.onnx", "--output", tmp_path]
    assert predict(*words, "--threshold", "0", "--video-format", "none", "--every", "1s", "--roll-search", "2") == 0
    people = pd.read_csv(tmp_path / "pool_cleaning" / "people.csv")
    # The cleaner's legs come in at the right edge, and walk along it.
    longest = people.person_id.value_counts().idxmax()
    assert (people.x2[people.person_id == longest] > 0.6).all()
    assert set(people.roll) <= {0.0, 180.0}
    assert capsys.readouterr().out.count("pool_cleaning") >= 1


def test_of_a_folder_what_cannot_be_read_is_named(files, tmp_path, capsys):
    import shutil

    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(files / "walk.mp4", folder / "walk.mp4")
    (folder / "broken.mp4").write_text("no video")
    words = ["--checkpoint", files / "tiny.pt", "--video", folder, "--boxes", files / "boxes.csv"]
    assert predict(*words, "--output", tmp_path / "out", "--video-format", "none") == 0
    captured = capsys.readouterr()
    assert "broken.mp4: not a readable video" in captured.err
    assert "1 video:" in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--boxes", "boxes.csv"], "give either --run RUN or --checkpoint FILE"),
        (["--checkpoint", "tiny.pt"], "give either --boxes CSV or --detector"),
        (["--checkpoint", "none.pt", "--boxes", "boxes.csv"], "there is no such checkpoint"),
        (["--checkpoint", "weights.pth", "--boxes", "boxes.csv"], "Add --model NAME"),
        (["--checkpoint", "old.pt", "--boxes", "boxes.csv"], "does not say the detector's roi_stride"),
        (["--checkpoint", "tiny.pt", "--model", "x3d_s_13x6", "--boxes", "boxes.csv"], "holds r2plus1d_tiny"),
        (["--checkpoint", "weights.pth", "--model", "slow_r50", "--boxes", "boxes.csv"], "Did you mean 'slow_r50_"),
        (["--checkpoint", "walk.mp4", "--model", "x3d_s_13x6", "--boxes", "boxes.csv"], "is no weight file"),
        (
            ["--checkpoint", "weights.pth", "--model", "r2plus1d_tiny", "--taxonomy", "ava80", "--boxes", "boxes.csv"],
            "head",
        ),
        (["--run", ".", "--boxes", "boxes.csv"], "is no run folder"),
        (["--checkpoint", "tiny.pt", "--detector", "none.onnx"], "no such person detector"),
        (["--checkpoint", "tiny.pt", "--boxes", "none.csv"], "cannot be read"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--roll-search"], "--roll-search turns the frame"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--every", "soon"], "seconds are expected"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video-format", "avi"], "unknown video format 'avi'"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--threshold", "7"], "in [0, 1]"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--device", "abacus"], "--device abacus"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video", "tiny.pt"], "has no boxes of 'tiny'"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video", "walk.mp4", "walk.mp4"], "is also at"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(files, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(files)
    video = [] if "--video" in words else ["--video", "walk.mp4"]
    assert main(["predict", *words, *video, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
