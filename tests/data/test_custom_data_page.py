"""docs/custom_data.md, followed to the letter: its files, its commands."""

import re
import shlex
from pathlib import Path

import pytest
import quick
from small_trees import write_video

from microg_da.cli import main
from microg_da.data.sources import open_source

PAGE = (Path(__file__).parents[2] / "docs" / "custom_data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(block)[3:] for block in blocks("sh")]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(1, 6):
        # Another frame rate than the benchmark's, and another shape.
        write_video(tmp_path / "mydata" / "videos" / f"take0{number}.mp4", count=30, rate=12, size=(96, 64))
    annotations = tmp_path / "mydata" / "annotations"
    annotations.mkdir()
    (annotations / "train.csv").write_text(blocks("csv")[0])
    (annotations / "label_map.pbtxt").write_text(blocks("pbtxt")[0])
    return tmp_path


def test_commands_are_the_ones_meant():
    assert [command[0] for command in commands()] == ["audit", "split", "fit"]


def test_the_data_can_be_audited_split_and_opened(folder, capsys):
    audit, split, _ = commands()
    assert main(audit) == 0
    assert "8" in capsys.readouterr().out
    assert main(split) == 0
    clips = open_source(
        "ava:mydata?start=0&scheme=mysplit.json",
        split="train",
        taxonomy="mydata/annotations/label_map.pbtxt",
        num_frames=4,
        sampling_rate=2,
        image_size=32,
        labelled=True,
        train=False,
    )
    first = clips[0]
    assert first.labels.shape[1] == 3
    # 12 frames a second: the keyframe at second 1 is frame 12, the third of its window.
    frame = {1.0: 12, 1.5: 18, 2.0: 24}[first.key.frame_stamp]
    assert round((first.frames[:, 2].float().mean().item() - 16) / 7) == frame


@pytest.mark.slow
def test_a_detector_can_be_trained_on_it(folder):
    *others, fit = commands()[1:]
    for command in others:
        assert main(command) == 0
    assert main([*fit, *quick.UP]) == 0
    assert list((folder / "runs").rglob("report.html"))
