"""The long commands on a pseudo-terminal and in a file: they end well, bars move and go, nothing is cut."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pseudo_terminal import COLOR, ESCAPE, Seen, run

for package in ("av", "norfair", "onnx", "onnxruntime", "optuna", "scenedetect"):
    pytest.importorskip(package)

TINY = [
    *("model.name=r2plus1d_micro", "model.num_frames=2", "data.image_size=32", "training.epochs=1"),
    *("training.batch_size=4", "evaluation.batch_size=4", "synthetic.train_clips=8", "synthetic.val_clips=2"),
    *("synthetic.test_clips=4", "synthetic.workers=0", "trainer.accelerator=cpu"),
]
FRAMES = 95
SIZE = (96, 128)
STAND_IN = """\
import json, pathlib, sys
words = [word for word in sys.argv[2:] if "=" not in word]
words = dict(zip(words[::2], words[1::2]))
run = pathlib.Path(words["--runs"]) / words["--experiment"] / words["--name"]
(run / "metrics" / "adapt").mkdir(parents=True)
lr = json.loads(pathlib.Path(words["--overrides"]).read_text())["training.lr"]
(run / "metrics" / "adapt" / "metrics.csv").write_text(f"epoch,val/map\\n0,{lr}\\n")
rows = [{"name": "adapted", "source": {"map": lr}, "target": {"map": lr}, "validators": {}}]
(run / "results.json").write_text(json.dumps({"rows": rows}))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """What the commands read: a release with videos, a detector of people, weights, a sweep."""
    folder = tmp_path_factory.mktemp("terminal")
    _write_release(folder / "release")
    _write_person_detector(folder / "people.onnx")
    boxes = [("filmA_001", s, 0.1, 0.2, 0.4, 0.9, 1) for s in (0.0, 1.0, 2.0)]
    columns = ["video_id", "timestamp", "x1", "y1", "x2", "y2", "person_id"]
    pd.DataFrame(boxes, columns=columns).to_csv(folder / "boxes.csv", index=False)
    _write_weights(folder / "micro.pt")
    program = folder / "microg_da"
    program.write_text(f"#!{sys.executable}\n{STAND_IN}")
    program.chmod(0o755)
    sweep = {
        "method": "grid",
        "metric": {"name": "adapt-val/map", "goal": "maximize"},
        "parameters": {"training.lr": {"values": [0.01, 0.02, 0.03]}},
        "command": [str(program), "fit", "--experiment", "ava2microg", "--overrides", "${args_json_file}"],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(sweep))
    return folder


def _video(path: Path) -> Path:
    from microg_da.video.writer import Mp4Writer

    rng = np.random.default_rng(len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = rng.integers(0, 255, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with Mp4Writer(path, SIZE, 30) as writer:
        for number in range(FRAMES):
            writer.add(np.roll(picture, number, axis=1), number / 30)
    return path


def _write_release(root: Path) -> None:
    clips = ("filmA_001", "recB_001", "recC_001", "recD_001", "recE_001")
    for clip in clips:
        _video(root / "videos" / "real" / clip.split("_")[0] / f"{clip}.mp4")
    (root / "annotation_files").mkdir()
    actions = "".join(f"{clip},r,1,{action}\n" for clip in clips for action in (12, 14))
    (root / "annotation_files" / "actions.csv").write_text(f"video_id,movie_or_real,person_id,action\n{actions}")
    rows = [(clip, frame, 1, 6.4, 4.8, 32, 43.2) for clip in clips for frame in (20, 45, 70)]
    columns = ["video_id", "frame_id", "person_id", "xmin", "ymin", "xmax", "ymax"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "annotation_files" / "bounding_boxes.csv", index=False)


def _write_person_detector(path: Path) -> None:
    """A network of YOLOX's shape that sees one person in the middle of every picture."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    answer = np.zeros((1, 21, 85), np.float32)
    answer[0, -1, :6] = (0.5, 0.5, np.log(0.5), np.log(0.5), 1, 1)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["output"]),
    ]
    weights = {"answer": answer, "nothing": np.zeros((), np.float32)}
    graph = helper.make_graph(
        nodes,
        "people",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 21, 85])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def _write_weights(path: Path) -> None:
    import torch

    from microg_da.config import load_config
    from microg_da.models import create_detector
    from microg_da.runs.detectors import describe_detector

    config = load_config("ava2microg", ["model=r2plus1d_micro", "model.num_frames=4", "model.sampling_rate=4"])
    content = describe_detector(config).as_dict() | {"state_dict": create_detector("r2plus1d_micro").state_dict()}
    torch.save(content, path)


COMMANDS = {
    "fit": ["fit", "--experiment", "ava2microg", "adaptation=adabn", *TINY],
    "sweep": ["sweep", "{files}/small.yaml"],
    "predict": [
        *("predict", "--checkpoint", "{files}/micro.pt", "--video", "{files}/release/videos/real/filmA/filmA_001.mp4"),
        *("--boxes", "{files}/boxes.csv", "--device", "cpu", "--output", "predicted"),
    ],
    "prepare": [
        "prepare",
        "--from",
        "microg4m-release:{files}/release",
        "--to",
        "tree",
        "--scheme",
        "by-source",
        "--jobs",
        "1",
    ],
    "ingest": [
        *("ingest", "{files}/release/videos/real/filmA/filmA_001.mp4", "--detector", "{files}/people.onnx"),
        *("--output", "ingested"),
    ],
    "audit": ["audit", "--data", "microg4m:{files}/release?scheme=by-source&decode=video"],
}
BARS = {
    "fit": [("source", "epoch"), ("source", "validation"), ("test on target",), ("reading target clips",)],
    "sweep": [("trials",)],
    "predict": [("filmA_001",)],
    "prepare": [("extracting frames",)],
    "ingest": [("filmA_001",)],
    "audit": [("reading clips",)],
}
# A line that stays, of each command.
LINES = {
    "fit": "adapted (adabn)",
    "sweep": "trial 2: adapt-val/map 0.0",
    "predict": "detections of 1 file",
    "prepare": "5 clips extracted",
    "ingest": "1 clips: ",
    "audit": "Checked, without findings",
}


@pytest.fixture
def start(files, tmp_path):
    """Run one of the commands."""

    def start_command(command: str, **options) -> Seen:
        return run([word.format(files=files) for word in COMMANDS[command]], tmp_path, **options)

    return start_command


@pytest.mark.parametrize(("command", "width"), [*((name, 100) for name in COMMANDS), ("fit", 60), ("predict", 60)])
def test_bars_move_and_go(start, command, width):
    seen = start(command, width=width)
    assert seen.status == 0, seen.raw
    for words in BARS[command]:
        assert seen.moved(*words), (words, seen.bars)
    assert not [line for line in seen.screen if "━╸" in line or " left " in line]
    assert LINES[command] in seen.text
    assert "…" not in "".join(seen.screen)
    assert seen.raw.endswith("\n")
    assert seen.raw.count("\x1b[?25l") == seen.raw.count("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize("command", ["fit", "prepare"])
def test_without_color(start, command):
    seen = start(command, NO_COLOR="1")
    assert seen.status == 0
    assert not COLOR.search(seen.raw), COLOR.search(seen.raw)
    assert all(seen.moved(*words) for words in BARS[command])


@pytest.mark.parametrize("command", ["fit", "predict", "prepare"])
def test_on_a_dumb_terminal(start, command):
    seen = start(command, width=60, term="dumb")
    assert seen.status == 0
    assert ESCAPE not in seen.raw
    assert not seen.bars
    assert LINES[command] in seen.text


@pytest.mark.parametrize(
    ("command", "color"), [*((name, False) for name in COMMANDS), ("fit", True), ("prepare", True)]
)
def test_in_a_file(start, tmp_path, command, color):
    file = tmp_path / "log.txt"
    seen = start(command, into=file, **({"FORCE_COLOR": "1"} if color else {}))
    assert seen.status == 0
    assert seen.raw == ""
    text = file.read_text()
    assert (ESCAPE in text) == (color and command != "prepare")  # which prints no color
    assert "\x1b[?25l" not in text
    assert "\x1b[2K" not in text
    assert "━╸" not in text
    assert LINES[command].split()[0] in text


def test_forced_color_on_a_terminal(start):
    seen = start("prepare", FORCE_COLOR="1")
    assert seen.status == 0
    assert COLOR.search(seen.raw)
    assert seen.moved("extracting frames")
