"""`evaluate --video-map`: the figures of the function, from files."""

import json

import pandas as pd
import pytest

from microg_da import evaluate_tubes, link_tubes
from microg_da.cli import main


@pytest.fixture
def files(tmp_path):
    """Two people through six frames; the second is found in four of them and less sure."""
    rows = [
        ("film_1", frame, left + frame / 100, 0.1, left + 0.3 + frame / 100, 0.9, 12, person)
        for frame in range(6)
        for person, left in enumerate((0.05, 0.55))
    ]
    truth = pd.DataFrame(rows, columns=["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"])
    found = truth[(truth.person_id == 0) | (truth.frame_stamp < 4)].assign(score=0.9 - 0.5 * truth.person_id)
    truth.to_csv(tmp_path / "truth.csv", index=False)
    found.to_csv(tmp_path / "tracks.csv", index=False)
    found.drop(columns="person_id").to_csv(tmp_path / "boxes.csv", index=False)
    return tmp_path, found, truth


def command(folder, detections, *words):
    given = ["--detections", folder / detections, "--ground-truth", folder / "truth.csv", "--scores", "probability"]
    return main(["evaluate", "--video-map", *map(str, given), *words])


@pytest.mark.parametrize(
    ("detections", "words", "how"),
    [("tracks.csv", (), "tracks"), ("boxes.csv", (), "linked"), ("tracks.csv", ("--tubes", "linked"), "linked")],
)
def test_the_command_prints_what_the_function_returns(files, capsys, detections, words, how):
    folder, found, truth = files
    assert command(folder, detections, "--json", *words) == 0
    answer = json.loads(capsys.readouterr().out)
    tubes = found if how == "tracks" else link_tubes(found.drop(columns="person_id"), scores="probability")
    expected = evaluate_tubes(tubes, truth, scores="probability")
    assert answer["tubes"] == how
    for name in ("map_20", "map_50", "map_75", "map_50_95"):
        assert answer[name] == pytest.approx(getattr(expected, name))
    assert answer["map_50"] == 1 if how == "tracks" else answer["map_20"] == 0.5


def test_the_table_says_how_tubes_were_found(files, capsys):
    folder, _, _ = files
    assert command(folder, "boxes.csv", "--by", "class") == 0
    printed = capsys.readouterr().out
    assert "linked" in printed
    assert "stand" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tubes", "linkd"), "linked"),
        (("--ci",), "--ci"),
        (("--by", "group"), "--by"),
        (("--protocol", "published"), "--protocol"),
    ],
)
def test_options_that_do_not_go_with_tubes_are_refused(files, capsys, words, said):
    assert command(files[0], "tracks.csv", *words) == 2
    assert said in capsys.readouterr().err


def test_tubes_need_people_and_the_option(files, capsys):
    folder, _, truth = files
    truth.drop(columns="person_id").to_csv(folder / "truth.csv", index=False)
    assert command(folder, "tracks.csv") == 2
    assert "person_id" in capsys.readouterr().err
    given = ["--detections", str(folder / "boxes.csv"), "--ground-truth", str(folder / "truth.csv")]
    assert main(["evaluate", *given, "--tubes", "linked"]) == 2
    assert "--video-map" in capsys.readouterr().err
