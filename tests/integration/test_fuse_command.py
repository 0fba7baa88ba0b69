"""`fuse` and `compare --detections` as a user runs them, on detections of two models that differ in skill."""

import json

import numpy as np
import pandas as pd
import pytest

from microg_da.cli import main
from microg_da.data.annotations import read_detections, write_annotations, write_detections

COLUMNS = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]
IDS = (1, 12, 17, 79)


def write_split(folder, name, seed):
    rng = np.random.default_rng(seed)
    rows = [(f"s{i % 10}_{i}", 52, 0.1, 0.1, 0.9, 0.9, a, rng.random() < 0.4) for i in range(80) for a in IDS]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "true"])
    truth = table[table["true"]][COLUMNS].assign(person_id=1)
    paths = {"truth": str(write_annotations(truth, folder / f"{name}_gt.csv"))}
    for model, strength in {"good": 2.0, "poor": 0.3}.items():
        score = strength * (2 * table["true"] - 1) + rng.normal(size=len(table))
        paths[model] = str(write_detections(table[COLUMNS].assign(score=score), folder / f"{name}_{model}.csv.gz"))
    return paths


@pytest.fixture
def splits(tmp_path):
    return write_split(tmp_path, "val", 0), write_split(tmp_path, "test", 1)


def learned(splits, output):
    val, test = splits
    files = ["--detections", test["good"], test["poor"], "--fit-detections", val["good"], val["poor"]]
    return ["fuse", *files, "--fit-ground-truth", val["truth"], "--output", str(output), "--taxonomy", "ava80"]


def test_mean_needs_no_fit_set(splits, tmp_path, capsys):
    _, test = splits
    output = tmp_path / "fused.csv"
    assert main(["fuse", "--detections", test["good"], test["poor"], "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["method"], report["calibrate"], report["num_boxes"]) == ("mean", "none", 80)
    assert read_detections(output)["score"].between(0, 1).all()


def test_classes_that_nobody_scores_stay_out(splits, tmp_path):
    assert main(learned(splits, tmp_path / "fused.csv")) == 0
    assert set(read_detections(tmp_path / "fused.csv")["action_id"]) == set(IDS)


def test_learned_fusion(splits, tmp_path, capsys):
    (tmp_path / "four.pbtxt").write_text("".join(f'item {{ name: "{i}" id: {i} }}\n' for i in IDS))
    command = [*learned(splits, tmp_path / "fused.csv"), "--taxonomy", str(tmp_path / "four.pbtxt")]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["weights"]["test_good.csv.gz"] > 0.6
    assert 0.5 < report["fit"]["cross_validated"]["map"] <= 1
    assert set(report["thresholds"]) == set(map(str, IDS))
    assert main(command) == 0
    assert "cross-validated on 80 boxes" in capsys.readouterr().out
    score = ["evaluate", "--detections", str(tmp_path / "fused.csv"), "--ground-truth", splits[1]["truth"]]
    assert main([*score, "--scores", "probability", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["f1_macro"] > 0.7


def test_compare_detections(splits, capsys):
    _, test = splits
    command = [
        "compare",
        "--detections",
        test["good"],
        test["poor"],
        "--ground-truth",
        test["truth"],
        "--resamples",
        "99",
    ]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in answer["models"]] == ["test_good", "test_poor"]
    assert answer["pairs"][0]["p_holm"] < 0.05
    assert answer["pairs"][0]["low"] > 0
    assert main(command) == 0
    assert "test_good − test_poor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["fuse", "--detections", "{good}", "--output", "x.csv", "--method", "stack"], "needs a fit set"),
        (["fuse", "--detections", "{good}", "--output", "x.csv", "--fit-detections", "{good}"], "--fit-ground-truth"),
        (["compare", "--detections", "{good}", "{poor}"], "--ground-truth"),
        (["compare", "--detections", "{good}", "--ground-truth", "{truth}"], "at least two models"),
        (["compare"], "Give run folders, or --detections"),
    ],
)
def test_bad_input(splits, capsys, extra, message):
    assert main([part.format(**splits[1]) for part in extra]) == 2
    assert message in capsys.readouterr().err
