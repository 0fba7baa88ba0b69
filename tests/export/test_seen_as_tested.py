"""`predict` and exported folders see footage as the run's test does, whatever says how large its frames are."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("av", reason="PyAV is not installed")

from microg_da.data.annotations import BOX
from microg_da.data.options import target_test_side
from microg_da.export import export_run
from microg_da.training.candidates import score_file, score_run
from microg_da.video.box_sources import TableBoxes, read_box_table
from microg_da.video.detector_loading import scorer_of_file, scorer_of_run
from microg_da.video.predict import PredictOptions, analyse
from microg_da.video.reader import Video
from microg_da.video.writer import Mp4Writer

MOMENTS = (0.5, 1.0, 1.5)


def write_noise(path):
    """Two seconds of 72 × 96 pixels that change slowly."""
    path.parent.mkdir(exist_ok=True)
    changes = np.random.default_rng(0).integers(-8, 9, (60, 72, 96, 3))
    with Mp4Writer(path, (72, 96), 30) as video:
        for number, image in enumerate(np.cumsum(changes, axis=0).clip(-90, 90) + 128):
            video.add(image.astype(np.uint8), number / 30)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """AVA's layout: a video for each split, with two people at three moments."""
    root = tmp_path_factory.mktemp("footage")
    for split, video in (("train", "a"), ("val", "c"), ("test", "b")):
        write_noise(root / "videos" / f"{video}.mp4")
        rows = [f"{video},{second},0.1,0.2,0.5,0.9,12,1\n{video},{second},0.4,0.1,0.9,0.8,14,2\n" for second in MOMENTS]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"ava_{split}.csv").write_text("".join(rows))
    return root


def scored(result):
    """``(K, C)`` probabilities, a person a row, of the only candidate of a test."""
    (table,) = result.detections
    wide = table.pivot_table(index=["frame_stamp", *BOX], columns="action_id", values="score").sort_index()
    return 1 / (1 + np.exp(-wide.to_numpy()))


def predicted(scorer, root, folder):
    """The same by `predict`'s way to the video, with the boxes of the annotations."""
    rows = [("b", s, *box, p) for s in MOMENTS for p, box in ((1, (0.1, 0.2, 0.5, 0.9)), (2, (0.4, 0.1, 0.9, 0.8)))]
    columns = ["video_id", "timestamp", *BOX, "person_id"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "boxes.csv", index=False)
    video = Video(root / "videos" / "b.mp4")
    boxes = TableBoxes(read_box_table(folder / "boxes.csv", ["b"]), 0.5, video)
    return analyse(video, boxes, scorer, PredictOptions(smooth=0)).scores


@pytest.mark.parametrize(
    ("words", "option", "side"),
    [
        ([], "", 32),
        (["data.test_side=40"], "", 40),
        (["data.test_side=40", "data.target_options.test_side=44"], "", 44),
        (["data.test_side=40", "data.target_options.test_side=44"], "&test_side=48", 48),
    ],
)
def test_scores_are_those_of_the_test(footage, make_run, tmp_path, words, option, side):
    data = f"ava:{footage}?start=0{option}"
    run = make_run(f"data.source=ava:{footage}?start=0", f"data.target={data}", *words)
    assert target_test_side(run.config) == side
    file = run.detector_file("source")
    content = torch.load(file, weights_only=True)
    content["state_dict"]["head.projection.weight"] *= 1000  # new layers say little, and all scores are near a half
    torch.save(content, file)
    expected = scored(score_run(run.path, variant="source_only"))
    exported = export_run(run.path, tmp_path / "out", variant="source_only").path
    assert json.loads((exported / "config.json").read_text())["test_short_side"] == side
    np.testing.assert_allclose(scored(score_file(exported, f"ava:{footage}?start=0")), expected, atol=1e-6)
    in_run = scorer_of_run(run.path, "source_only")
    for scorer in (in_run, scorer_of_file(exported), scorer_of_file(file.rename(tmp_path / "moved.pt"))):
        np.testing.assert_allclose(predicted(scorer, footage, tmp_path), expected, atol=1e-3)
    other = predicted(replace(in_run, short_side=side - 8), footage, tmp_path)
    assert np.abs(other - expected).max() > 0.05
