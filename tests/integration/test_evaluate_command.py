"""`python -m microg_da evaluate` as a user runs it."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from microg_da.cli import main
from microg_da.data.annotations import write_annotations, write_detections

BOXES = [(0.1, 0.1, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9)]


@pytest.fixture
def files(tmp_path):
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]
    labels = [(f"v_{i}", 52, *box, (12, 14)[i % 2], person) for i in range(6) for person, box in enumerate(BOXES)]
    rows = [
        (f"v_{i}", 52, *box, a, 2.0 * ((12, 14)[i % 2] == a) - 1) for i in range(6) for box in BOXES for a in (12, 14)
    ]
    truth = pd.DataFrame(labels, columns=[*columns, "person_id"])
    detections = pd.DataFrame(rows, columns=[*columns, "score"])
    return (
        "--detections",
        str(write_detections(detections, tmp_path / "d.csv.gz")),
        "--ground-truth",
        str(write_annotations(truth, tmp_path / "g.csv")),
    )


def test_json_is_one_object_on_stdout(files):
    command = [sys.executable, "-m", "microg_da", "evaluate", *files, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert done.stderr == ""
    assert answer["map"] == answer["f1_macro"] == answer["recall_macro"] == 1
    assert (answer["num_keyframes"], answer["num_boxes"], answer["num_classes_with_ground_truth"]) == (6, 12, 2)
    assert answer["protocol"] == "corrected"
    assert answer["num_tied_scores"] == 24


@pytest.mark.data
def test_published_figure_from_the_authors_files(test_data, capsys):
    folder = test_data / "microg4m"
    detections = str(folder / "detections_test" / "SLOWONLY_4x16_R50.csv.gz")
    truth = str(folder / "ava_test_gt.csv")
    arguments = ["evaluate", "--detections", detections, "--ground-truth", truth, "--protocol", "published", "--json"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["map"] == pytest.approx(0.46366, abs=5e-5)
    assert answer["f1_macro"] == pytest.approx(0.28721, abs=5e-5)


@pytest.mark.parametrize(
    ("by", "shown"),
    [
        ("class", "12 stand"),
        ("group", "person movement"),
        ("source-video", "v "),
        ("persons", "2 "),
        ("box-size", "small"),
    ],
)
def test_tables(files, capsys, by, shown):
    assert main(["evaluate", *files, "--by", by]) == 0
    printed = capsys.readouterr().out
    assert "mAP" in printed
    assert "100.0" in printed
    assert any(line.strip().startswith(shown.strip()) for line in printed.splitlines())


@pytest.mark.parametrize("by", ["class", "group", "source-video", "persons", "box-size"])
def test_breakdowns_as_json(files, capsys, by):
    assert main(["evaluate", *files, "--by", by, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    if by == "class":
        known = [row for row in answer["per_class"] if row["support"]]
        assert [(row["action_id"], row["ap"], row["support"]) for row in known] == [(12, 1, 6), (14, 1, 6)]
        assert next(row for row in answer["per_class"] if not row["support"])["ap"] is None
    elif by == "group":
        assert [(row["group"], row["map"], row["support"]) for row in answer["per_group"]] == [("PM", 1, 12)]
    else:
        assert answer["by"] == by
        assert sum(part["num_boxes"] for part in answer["parts"]) == 12


def test_intervals_and_figure(files, tmp_path, capsys):
    figure = tmp_path / "scores.svg"
    arguments = ["evaluate", *files, "--ci", "--resamples", "20", "--by", "persons", "--figure", str(figure)]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["intervals"]["source"]["num_clusters"] == 1
    assert answer["intervals"]["keyframe"]["num_clusters"] == 6
    assert answer["intervals"]["keyframe"]["map"] == [1, 1]
    assert answer["parts"][0]["intervals"]["recall_macro"] == [1, 1]
    assert figure.read_text().lstrip().startswith("<?xml")
    assert main(arguments) == 0
    assert "treated as independent" in capsys.readouterr().out
    assert main(["evaluate", *files, "--figure", str(tmp_path / "scores.txt")]) == 2


def test_exclude(files, tmp_path, capsys):
    (tmp_path / "excluded.csv").write_text("v_0,52\nv_1,0052\n")
    assert main(["evaluate", *files, "--exclude", str(tmp_path / "excluded.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_keyframes"] == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--protocol", "publishd"], "unknown protocol 'publishd'. Did you mean 'published'"),
        (["--by", "clas"], "--by: unknown breakdown 'clas'. Did you mean 'class'"),
        (["--scores", "probability"], "which are not probabilities"),
        (["--taxonomy", "nowhere"], "unknown taxonomy 'nowhere'"),
        (["--by", "domain"], "Give --actions"),
        (["--detections", "absent.csv"], "absent.csv: cannot be read"),
        (["--jsn"], "Did you mean --json"),
    ],
)
def test_bad_input_is_one_message_and_status_2(files, capsys, extra, message):
    assert main(["evaluate", *files, *extra]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert printed.err.count("\n") == 1
