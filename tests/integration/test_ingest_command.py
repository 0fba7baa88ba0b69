"""`ingest`: footage in, a data set out that `microg4m:` reads once it is labelled."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from microg_da.cli import main
from microg_da.data.annotations import read_actions, read_person_boxes
from microg_da.data.sources import open_source, read_dataset_files


def ingest(*words):
    return main(["ingest", *map(str, words)])


@pytest.mark.data
def test_round_trip(test_data, tmp_path, capsys):
    """Real footage under three names, labelled as CVAT would, opened as a data set."""
    for package in ("onnxruntime", "norfair", "scenedetect"):
        pytest.importorskip(package)
    detector = test_data / "weights" / "yolox_nano" / "yolox_nano.onnx"
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("mission_a", "mission_b", "mission_c"):
        shutil.copy(test_data / "videos" / "pool_cleaning.mp4", folder / f"{name}.mp4")
    assert ingest(folder / "mission_a.mp4", "--detector", detector, "--output", out) == 0
    assert "3 clips" in capsys.readouterr().out
    # The others are cheaper to copy than to look at again.
    for name in ("mission_b", "mission_c"):
        copy_source(out, "mission_a", name)
    times = {path: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert ingest(folder / "mission_a.mp4", "--detector", detector, "--output", out) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "videos").iterdir()} == times  # nothing is done twice
    assert ingest(folder / "mission_a.mp4", "--detector", detector, "--output", out, "--footage", "simulated") == 2
    assert "cut with other settings (footage='real')" in capsys.readouterr().err
    for path in (out / "cvat").glob("*.xml"):
        path.write_text(path.read_text().replace('name="14 walk">false', 'name="14 walk">true'))
    labelled = sorted((out / "cvat").glob("*.xml"))
    assert ingest("--labels", *labelled, "--output", out) == 0
    people = sum(path.read_text().count("<track ") for path in labelled)
    assert people >= 9
    assert f"9 clips labelled with {people} actions" in capsys.readouterr().out
    actions = read_actions(out / "annotation_files" / "actions.csv")
    assert set(actions.action_id) == {14}
    assert set(actions.domain) == {"real"}
    tree, _ = read_dataset_files(f"microg4m:{out}", {"scheme": "by-source"})
    assert tree.annotations.video_id.nunique() == 9
    assert set(tree.sources) == {"mission_a", "mission_b", "mission_c"}
    boxes = read_person_boxes(out / "annotation_files" / "bounding_boxes.csv")
    first = boxes[boxes.video_id == "mission_a_0001"]
    row = tree.annotations[tree.annotations.video_id == "mission_a_0001"].iloc[0]
    keyframe = first[first.frame_stamp == row.frame_stamp].iloc[0]
    assert row.x1 == pytest.approx(keyframe.x1 / 340, abs=2e-3)
    assert row.y2 == pytest.approx(keyframe.y2 / 256, abs=2e-3)
    request = {"taxonomy": "microg50", "num_frames": 4, "sampling_rate": 4, "image_size": 64, "labelled": True}
    clips = open_source(f"microg4m:{out}?scheme=by-source&decode=video", split="train", train=False, **request)
    clip = clips[0]
    assert clip.frames.shape[:2] == (3, 4)
    assert (clip.labels.sum(dim=1) == 1).all()


def copy_source(out, old, new):
    """A second source video with the clips of the first."""
    shutil.copytree(out / "sources" / old, out / "sources" / new)
    for path in (out / "sources" / new).glob("*.csv"):
        path.write_text(path.read_text().replace(old, new))
    for path in list((out / "videos").glob(f"{old}_*")) + list((out / "cvat").glob(f"{old}_*")):
        copy = path.with_name(path.name.replace(old, new))
        shutil.copy(path, copy)
        if copy.suffix == ".xml":
            copy.write_text(copy.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give videos"),
        (["v.mp4"], "Give --detector"),
        (["v.mp4", "--detector", "none.onnx"], "the person detector does not exist"),
        (["v.mp4", "--footage", "film"], "unknown footage 'film'"),
        (["--labels", "x.xml"], "Cut videos first"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.mp4").write_text("no video")
    assert ingest(*words, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_warning_of_the_tracker_names_the_file(tmp_path, caplog, capsys):
    """Somebody shrinks so fast that the tracker's prediction turns inside out."""
    for package in ("av", "norfair", "scenedetect"):
        pytest.importorskip(package)
    from rich.console import Console

    from microg_da.video.ingest import ingest as ingest_videos
    from microg_da.video.person_boxes import PersonBoxes
    from microg_da.video.writer import Mp4Writer

    for name in ("shrinking", "still"):
        with Mp4Writer(tmp_path / f"{name}.mp4", (48, 64), 30) as writer:
            for number in range(95):
                writer.add(np.full((48, 64, 3), 90, np.uint8), number / 30)
    looks = {"shrinking": iter([(5, 59), (5, 40), (5, 21), *[(30, 60)] * 90]), "still": iter([(5, 59)] * 90)}
    for name, widths in looks.items():

        def find(image, widths=widths):
            left, right = next(widths)
            return PersonBoxes(np.array([[left, 5.0, right, 40.0]]), np.ones(1), np.zeros(1))

        ingest_videos([tmp_path / f"{name}.mp4"], find, tmp_path / "out", console=Console(width=300))
        (source,) = (tmp_path / "out" / "sources").glob(f"{name}/source.json")
        faults = json.loads(source.read_text())["faults"]
        printed = capsys.readouterr().out
        if name == "shrinking":
            assert len(faults) == 1
            assert "without area" in faults[0]
            assert f"{tmp_path}/shrinking.mp4: {faults[0]}" in printed
        else:
            assert (faults, printed) == ([], "")
    assert "Incorrect bounding boxes" not in caplog.text


def test_labels_of_another_clip(tmp_path, capsys):
    source = tmp_path / "sources" / "a"
    source.mkdir(parents=True)
    (source / "source.json").write_text('{"domain": "real"}')
    pd.DataFrame([{"video_id": "a_0001", "kept": True}]).to_csv(source / "clips.csv", index=False)
    (tmp_path / "x.xml").write_text("<annotations><meta><task><name>a_001</name></task></meta></annotations>")
    assert ingest("--labels", tmp_path / "x.xml", "--output", tmp_path) == 2
    said = capsys.readouterr().err
    assert "'a_001'" in said
    assert "Did you mean 'a_0001'?" in said
