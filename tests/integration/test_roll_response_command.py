"""`roll-response` as a user runs it, on a tiny run."""

import json

import pandas as pd
import pytest
import torch
from commands import run

from microg_da.cli import main
from microg_da.inference import roll_response
from microg_da.runs.detectors import load_run_detector
from microg_da.runs.folder import Run

TINY = [
    "adaptation.name=adabn",
    "training.epochs=1",
    "training.batch_size=8",
    "evaluation.batch_size=8",
    "data.image_size=48",
    "synthetic.train_clips=16",
    "synthetic.val_clips=4",
    "synthetic.test_clips=12",
    "synthetic.workers=0",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, _own_cache):
    root = tmp_path_factory.mktemp("runs")
    done = run("fit", "--experiment", "ava2microg", "--runs", root, "--name", "x", *TINY)
    assert done.returncode == 0, done.stderr
    return root / "ava2microg" / "x"


def response(folder, name="source_only_source"):
    return json.loads((folder / "roll_response" / f"{name}.json").read_text())


def test_files_numbers_and_report(run_folder, capsys):
    assert main(["roll-response", "--run", str(run_folder), "--variant", "source_only", "--angles", "4"]) == 0
    printed = capsys.readouterr().out
    for word in ("all", "person movement", "gravity bias", "at 0°"):
        assert word in printed
    content = response(run_folder)
    assert content["degrees"] == [0, 90, 180, 270]
    result = Run(run_folder).results.source_only
    maps = next(curve["map"] for curve in content["curves"] if curve["key"] == "all")
    assert maps[0] == pytest.approx(result.source.map, abs=1e-6)
    assert content["gravity_bias"] == pytest.approx(1 - sum(maps) / 4 / maps[0])
    table = pd.read_csv(run_folder / "roll_response" / "source_only_source.csv")
    assert table.query("kind == 'all'")["map"].tolist() == pytest.approx(maps)
    assert (run_folder / "roll_response" / "source_only_source.png").stat().st_size > 10_000
    assert not list(run_folder.rglob(".tmp-*"))
    assert main(["report", str(run_folder)]) == 0
    page = (run_folder / "report.html").read_text()
    assert "Camera roll" in page
    assert page.count("data:image/svg+xml") == 1


def test_what_was_measured_is_not_measured_again(run_folder, monkeypatch):
    words = ["roll-response", "--run", str(run_folder), "--row", "source_only", "--domain", "target", "--angles"]
    tested = []
    test = roll_response._test

    def stopping(predictor, datasets, domain, degrees):
        if degrees == 180:
            raise KeyboardInterrupt
        tested.append(degrees)
        return test(predictor, datasets, domain, degrees)

    monkeypatch.setattr(roll_response, "_test", stopping)
    assert main([*words, "3"]) == 0
    assert tested == [0, 120, 240]
    assert main([*words, "6"]) == 130
    assert tested == [0, 120, 240, 60]
    assert response(run_folder, "source_only_target")["complete"] is False
    assert main(["report", str(run_folder)]) == 0
    monkeypatch.setattr(roll_response, "_test", lambda *a: tested.append(a[-1]) or test(*a))
    assert main([*words, "6"]) == 0
    assert tested == [0, 120, 240, 60, 180, 300]
    whole = response(run_folder, "source_only_target")
    assert main([*words, "6", "--output", str(run_folder / "again")]) == 0
    again = json.loads((run_folder / "again" / "source_only_target.json").read_text())
    assert whole == again


def test_several_runs_give_one_picture_and_json(run_folder, tmp_path, capsys):
    words = ["roll-response", "--run", str(run_folder), str(run_folder), "--angles", "2", "--json"]
    assert main(words) == 2
    assert "--output is required" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path)]) == 2
    assert "need different --labels" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path), "--labels", "one", "other"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["variant"] for line in lines] == ["adapted", "adapted"]
    drawn = (tmp_path / "roll_response.svg").read_text()
    assert ">one<" in drawn
    assert ">other<" in drawn


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--row", "target_supervised"], "source_only, adapted"),
        (["--row", "sourceonly"], "Did you mean 'source_only'"),
        (["--angles", "0"], "--angles 0 is invalid"),
        (["--domain", "earth"], "unknown domain 'earth'"),
        (["--data", "synthetic:mars"], "mars"),
    ],
)
def test_what_cannot_be_is_refused(run_folder, capsys, words, message):
    assert main(["roll-response", "--run", str(run_folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_other_weights_are_not_mixed_in(run_folder, tmp_path, capsys):
    words = ["roll-response", "--run", str(run_folder), "--angles", "1", "--output", str(tmp_path)]
    assert main(words) == 0
    file = tmp_path / "adapted_source.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "weights": "of another run"}))
    assert main(words) == 2
    assert "measured with other weights" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["roll-response", "--run", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_detector_is_read_back_as_it_was_tested(run_folder):
    one, other = (load_run_detector(run_folder, row) for row in ("source_only", None))
    assert (one.variant, other.variant) == ("source_only", "adapted")
    saved = torch.load(run_folder / "checkpoints" / "adapt" / "detector.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in other.detector.state_dict().items())
    assert not other.detector.training
    assert other.predictor.method is None  # adabn changes the detector and does not act at test time
