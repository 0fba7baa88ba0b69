"""`predict`: from a weight file and a video to detections and a picture."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.data.annotations import read_detections
from microg_da.models import create_detector
from microg_da.runs.detectors import describe_detector
from microg_da.video.detector_loading import scorer_of_file

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
    assert detections.attrs["scores"] == "probability"
    assert read_detections(out / "walk" / "detections.csv").attrs["scores"] == "probability"
    assert set(detections.video_id) == {"walk"}
    assert sorted(set(detections.frame_stamp)) == [0.0, 0.5, 1.0, 1.5]
    np.testing.assert_allclose(sorted(set(detections.x1)), [0.1, 0.15, 0.2, 0.25])
    assert json.loads((out / "walk" / "video.json").read_text())["rendered"] == "walk.mp4"
    made = (out / "walk" / "walk.mp4").stat().st_mtime_ns
    assert predict(*words) == 0  # done before, and kept
    assert (out / "walk" / "walk.mp4").stat().st_mtime_ns == made
    assert predict(*words[:-1], "0.5") == 2
    assert "(threshold=0.0)" in capsys.readouterr().err
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
    assert "1 file:" in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--boxes", "boxes.csv"], "Give either --run RUN or --checkpoint FILE"),
        (["--checkpoint", "tiny.pt"], "Give either --boxes CSV or --person-detector"),
        (["--checkpoint", "none.pt", "--boxes", "boxes.csv"], "the checkpoint does not exist"),
        (["--checkpoint", "weights.pth", "--boxes", "boxes.csv"], "Add --model NAME"),
        (["--checkpoint", "old.pt", "--boxes", "boxes.csv"], "has no roi_stride"),
        (
            ["--checkpoint", "tiny.pt", "--model", "x3d_s_13x6", "--boxes", "boxes.csv"],
            "contains the model r2plus1d_tiny",
        ),
        (["--checkpoint", "weights.pth", "--model", "slow_r50", "--boxes", "boxes.csv"], "Did you mean 'slow_r50_"),
        (["--checkpoint", "walk.mp4", "--model", "x3d_s_13x6", "--boxes", "boxes.csv"], "is not a weight file"),
        (
            ["--checkpoint", "weights.pth", "--model", "r2plus1d_tiny", "--taxonomy", "ava80", "--boxes", "boxes.csv"],
            "head",
        ),
        (["--run", ".", "--boxes", "boxes.csv"], "is not a run folder"),
        (["--checkpoint", "tiny.pt", "--detector", "none.onnx"], "the person detector does not exist"),
        (["--checkpoint", "tiny.pt", "--boxes", "none.csv"], "none.csv"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--roll-search"], "--roll-search"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--every", "soon"], "expected seconds"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video-format", "avi"], "unknown video format 'avi'"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--threshold", "7"], "in [0, 1]"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--device", "abacus"], "--device abacus"),
        (["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video", "tiny.pt"], "not a readable video"),
        (
            ["--checkpoint", "tiny.pt", "--boxes", "boxes.csv", "--video", "walk.mp4", "walk.mp4"],
            "walk.mp4: another file",
        ),
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


def no_torch_before(words, tmp_path):
    """What the command says in a process of its own, and whether torch was imported by then."""
    code = (
        "import sys; from microg_da.cli import main; status = main(sys.argv[1:]); print(status, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "predict", *map(str, words), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "model.onnx"], "is an ONNX network"),
        (["--checkpoint", "."], "Give one of its files: "),
        (["--checkpoint", "none.pt"], "the checkpoint does not exist"),
        (["--checkpoint", "weights.pth", "--model", "x3d_x"], "Did you mean 'x3d_"),
        (["--checkpoint", "weights.pth", "--roi-stride", "wide"], "expected true, published or a number"),
        (["--run", "."], "is not a run folder"),
        (["--run", ".", "--roi-stride", "true"], "--roi-stride applies to --checkpoint"),
        (["--checkpoint", "tiny.pt", "--person-detector", "tiny.pt"], "not an ONNX network"),
        (["--checkpoint", "tiny.pt", "--video", "none.mp4"], "the file or folder does not exist"),
        (["--checkpoint", "tiny.pt", "--video", "tiny.pt"], "not a readable video file"),
        (["--checkpoint", "tiny.pt", "--image", "broken.jpg"], "not a readable image file"),
        (["--checkpoint", "tiny.pt", "--video", "walk.mp4", "empty.mp4"], "is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_files_are_refused_before_torch_is_imported(files, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(files)
    (files / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    (files / "broken.jpg").write_text("no image")
    (files / "empty.mp4").write_bytes(b"")
    words = words if {"--video", "--image"} & set(words) else [*words, "--video", "walk.mp4"]
    words = words if "--person-detector" in words else [*words, "--boxes", "boxes.csv"]
    said, error = no_torch_before(words, tmp_path)
    assert said == ["2", "False"], error
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_when_nothing_can_be_read_no_folder_is_left(files, tmp_path, capsys):
    for name in ("a.mp4", "b.jpg"):
        (tmp_path / name).write_text("neither")
    words = ["--checkpoint", files / "tiny.pt", "--video", tmp_path / "a.mp4", "--image", tmp_path / "b.jpg"]
    (tmp_path / "boxes.csv").write_text("video_id,timestamp,x1,y1,x2,y2\na,0,0.1,0.1,0.5,0.5\n")
    assert predict(*words, "--boxes", tmp_path / "boxes.csv", "--output", tmp_path / "out") == 2
    assert "none of 2 files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_published_weights_give_the_logits_of_pyslowfast(test_data):
    """Through the scorer that `predict` makes of the file, with its default stride."""
    folder = test_data / "pyslowfast"
    file = folder / "X3D_S_seed1.pyth"
    scorer = scorer_of_file(file, "x3d_s_13x6")
    assert (scorer.num_frames, scorer.sampling_rate, scorer.short_side) == (13, 6, 182)
    assert len(scorer.notes) == 1
    assert "RoI stride 16" in scorer.notes[0]
    with np.load(folder / "X3D_S_seed1_test.npz") as stored:
        clip, boxes, logits = (torch.from_numpy(stored[key]) for key in ("clip", "boxes", "logits"))
    with torch.no_grad():
        said = {
            stride: given.predictor.detector(clip.float(), boxes[:, 1:], boxes[:, 0].long()).logits
            for stride, given in (("auto", scorer), ("true", scorer_of_file(file, "x3d_s_13x6", roi_stride="true")))
        }
    # Normalisation is multiplied into convolutions, which rounds.
    torch.testing.assert_close(said["auto"], logits, atol=1e-3, rtol=0)
    assert (said["true"] - logits).abs().max() > 1


def test_the_window_and_size_that_a_published_file_was_trained_with(files, tmp_path):
    state = torch.load(files / "weights.pth", weights_only=True)
    text = "DATA:\n  NUM_FRAMES: 4\n  SAMPLING_RATE: 16\n  TEST_CROP_SIZE: 64\n"
    torch.save({"model_state": state, "cfg": text}, tmp_path / "w.pyth")
    scorer = scorer_of_file(tmp_path / "w.pyth", "r2plus1d_tiny")
    assert (scorer.num_frames, scorer.sampling_rate, scorer.short_side) == (4, 16, 64)
    assert any("4×16" in note for note in scorer.notes)
    usual = scorer_of_file(files / "weights.pth", "r2plus1d_tiny")
    assert (usual.num_frames, usual.sampling_rate, usual.short_side) == (8, 4, 109)
    assert not usual.notes


def test_a_file_that_knows_its_stride_takes_no_other(files, tmp_path, capsys):
    words = ["--checkpoint", files / "tiny.pt", "--roi-stride", "published", "--video", files / "walk.mp4"]
    assert predict(*words, "--boxes", files / "boxes.csv", "--output", tmp_path / "out") == 2
    assert "--roi-stride" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_a_still_and_a_folder_of_stills(test_data, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("Kate-Rubins.jpg", "Expedition-38-Crew.jpg"):
        (folder / name).symlink_to(test_data / "iss_photos" / name)
    words = ["--checkpoint", test_data / "pyslowfast" / "X3D_S_seed1.pyth", "--model", "x3d_s_13x6"]
    words += ["--person-detector", test_data / "weights" / "yolox_nano" / "yolox_nano.onnx"]
    words += ["--image", test_data / "videos" / "iss_still.jpg", folder, "--threshold", "0"]
    assert predict(*words, "--output", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert captured.err.count("RoI stride 16") == 1
    counts = {}
    for name in ("iss_still", "Kate-Rubins", "Expedition-38-Crew"):
        assert (tmp_path / "out" / name / f"{name}.jpg").is_file()
        counts[name] = json.loads((tmp_path / "out" / name / "video.json").read_text())["persons"]
        assert name in captured.out
    assert counts["iss_still"] >= 2
    assert counts["Expedition-38-Crew"] >= 2
    detections = read_detections(tmp_path / "out" / "detections.csv")
    assert detections.video_id.value_counts().to_dict() == {name: 50 * count for name, count in counts.items() if count}
