"""The command as a user starts it."""

from __future__ import annotations

import json

import pytest

from microg_da.cli import main


@pytest.fixture
def files(tmp_path):
    references = [
        {"video_id": f"{s}_{n}", "caption": f"{s} floats {n}", "qa_pairs": [{"Q": f"Who {n}?", "A": f"Crew {s}."}]}
        for s in "ab"
        for n in (1, 2)
    ]
    predictions = [{"video_id": "a_1", "qa_pairs": [{"Q": "Who 1?", "A": "Crew a."}]}]
    paths = {}
    for name, value in {"references": references, "predictions": predictions}.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(value))
    return ["--references", str(paths["references"])], ["--predictions", str(paths["predictions"])]


def test_missing_predictions_exit_2_with_coverage(files, capsys):
    references, predictions = files
    assert main(["text-eval", *references, *predictions, "--task", "vqa", "--metrics", "cider"]) == 2
    error = capsys.readouterr().err
    assert "1 of 4 items (25.0%)" in error
    assert "--missing empty" in error


def test_nothing_to_score_exits_2(files, capsys):
    assert main(["text-eval", *files[0], "--task", "vqa"]) == 2
    assert "--baselines" in capsys.readouterr().err


def test_json_names_systems_what_they_saw_and_what_was_not_computed(files, capsys):
    pytest.importorskip("pycocoevalcap.rouge.rouge", reason="extra `text` is not installed")
    references, predictions = files
    options = ["--task", "vqa", "--protocol", "released", "--metrics", "rougeL,cider", "--missing", "empty"]
    assert (
        main(["text-eval", *references, *predictions, *options, "--baselines", "--ci", "--by", "source", "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out)
    model, *blind = answer["systems"]
    assert answer["items"] == 4
    assert "needs --bertscore-model" in answer["not_computed"]["bertscore"]
    assert model["overall"]["rougeL"] == pytest.approx(25)
    assert model["parts"]["source"]["a"]["rougeL"] == pytest.approx(50)
    assert any("coverage: predictions for 1 of 4" in note for note in answer["notes"])
    saw = {one["name"]: one["saw"] for one in blind}
    assert saw["echo of the question"] == "the question"
    assert "other source videos" in saw["TF-IDF nearest question, source left out"]
    low, high = model["intervals"]["overall"]["rougeL"]
    assert low <= 25 <= high


def test_tables_are_printed(files, capsys):
    pytest.importorskip("pycocoevalcap.rouge.rouge", reason="extra `text` is not installed")
    options = ["--task", "caption", "--protocol", "released", "--metrics", "rougeL"]
    assert main(["text-eval", *files[0], *options, "--baselines"]) == 0
    printed = capsys.readouterr().out
    assert "medoid caption" in printed
    assert "do not rank it against a zero-shot model" in printed
    assert "bertscore: not computed" in printed
