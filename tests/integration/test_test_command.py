"""`python -m microg_da test` on runs and files whose weights are random: what is tested, through what, on which clips."""

from __future__ import annotations

import json
import shutil
from typing import ClassVar

import pandas as pd
import pytest
import torch

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import TestTimeMethod, detect
from microg_da.adaptation.predictor import Predictor
from microg_da.cli import main
from microg_da.config import load_config, save_config
from microg_da.data.annotations import read_annotations, read_detections
from microg_da.evaluation.intervals import paired_intervals
from microg_da.evaluation.protocols import evaluate
from microg_da.runs.detectors import build_detector
from microg_da.runs.folder import Run
from microg_da.taxonomy import get_taxonomy
from microg_da.training.stage import save_detector
from microg_da.types import LabelledClipBatch

KEYS = [
    *("adaptation=dann", "data.image_size=32", "model.num_frames=2", "evaluation.batch_size=4"),
    *("synthetic.train_clips=8", "synthetic.val_clips=4", "synthetic.test_clips=12", "synthetic.workers=0"),
    *("trainer.accelerator=cpu", "model.roi_stride=true"),
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run with a source-only and an adapted detector, of random weights."""
    folder = tmp_path_factory.mktemp("runs") / "ava2microg" / "tiny"
    run = Run(folder, load_config("ava2microg", KEYS))
    save_config(run.config, run.config_file)
    for seed, stage in enumerate(("source", "adapt")):
        torch.manual_seed(seed)
        save_detector(run, stage, Predictor(build_detector(run.config)), 0.0)
    return folder


def run_test(*words):
    return main(["test", *map(str, words)])


def results(folder):
    return json.loads((folder / "test.json").read_text())


def maps(folder):
    answer = results(folder)
    return {title: tested["scores"]["map"] for title, tested in zip(answer["titles"], answer["tested"], strict=True)}


class Spy(TestTimeMethod):
    """Predicts as the detector does and remembers what it was shown."""

    seen: ClassVar[list] = []

    def prepare(self, detector, source, target):
        for domain, clips in (("source", source), ("target", target)):
            self.seen += [(f"prepare {domain}", batch) for batch in clips]

    def predict(self, detector, batch):
        self.seen.append(("predict", batch))
        return detect(detector, batch)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr(Spy, "seen", [])
    entries = dict(ADAPTATIONS._entries)
    ADAPTATIONS.register("spy", f"{__name__}:Spy", "remembers")
    yield Spy
    ADAPTATIONS._entries = entries


def test_a_run_is_tested_as_its_files_say(run_folder, tmp_path, capsys):
    assert run_test("--run", run_folder, "--method", "roll_tta?rolls=2", "--output", tmp_path, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    answer = results(tmp_path)
    assert {**printed} == {key: answer[key] for key in printed}
    titles = ["source-only", "source-only + roll_tta rolls=2", "adapted (dann)", "adapted (dann) + roll_tta rolls=2"]
    assert answer["titles"] == titles
    assert any("embedded" in note for note in answer["notes"])
    truth = read_annotations(tmp_path / "ground_truth.csv")
    table = pd.read_csv(tmp_path / "test.csv")
    per_class = pd.read_csv(tmp_path / "per_class.csv")
    assert table["title"].tolist() == titles
    detections = {}
    for row, (file, tested) in enumerate(zip(answer["detections"], answer["tested"], strict=True)):
        detections[row] = read_detections(tmp_path / file)
        scores = evaluate(detections[row], truth)
        for metric in ("map", "f1_macro", "recall_macro", "auroc_macro"):
            assert tested["scores"][metric] == pytest.approx(getattr(scores, metric), abs=1e-6)
            assert table[metric][row] == pytest.approx(getattr(scores, metric), abs=1e-6)
    assert len(per_class) == 4 * 50
    # The intervals are those that `fit` gives a run.
    pair = {"source_only": detections[0], "adapted": detections[2]}
    known = paired_intervals(truth, pair, get_taxonomy("microg50"), "corrected")
    change = answer["tested"][2]["map_change"]
    assert (change["low"], change["high"]) == pytest.approx(tuple(known.change), abs=1e-5)
    interval = answer["tested"][0]["map_interval"]
    assert (interval["low"], interval["high"]) == pytest.approx(tuple(known.map["source_only"]), abs=1e-5)


def test_a_detector_predicts_what_its_weights_say(run_folder, tmp_path):
    """The written logits are those of the network of the file, asked without this package's passes."""
    from microg_da.data.datamodule import DomainDatasets
    from microg_da.runs.detectors import load_run_detector

    assert run_test("--run", run_folder, "--variant", "adapted", "--split", "val", "--output", tmp_path) == 0
    answer = results(tmp_path)
    written = read_detections(tmp_path / answer["detections"][0])
    config = Run.open(run_folder).config
    clip = DomainDatasets(config).get("target", "val", labelled=False)[0]
    detector = load_run_detector(run_folder, "adapted").detector
    with torch.no_grad():
        logits = detector(clip.frames[None], clip.boxes, torch.zeros(len(clip.boxes), dtype=torch.int64)).logits
    rows = written[(written.video_id == clip.key.video_id) & (written.frame_stamp == clip.key.frame_stamp)]
    assert sorted(rows.score) == pytest.approx(sorted(logits.flatten().tolist()), abs=1e-4)


def test_no_method_sees_labels_and_each_looks_at_training_clips_only_before(run_folder, tmp_path, spy):
    data = "synthetic:microgravity?look=real"
    assert run_test("--run", run_folder, "--data", data, "--method", "spy", "--output", tmp_path) == 0
    seen = {kind: [batch for what, batch in spy.seen if what == kind] for kind, _ in spy.seen}
    assert set(seen) == {"prepare source", "prepare target", "predict"}
    for kind in ("prepare target", "predict"):
        assert not any(isinstance(batch, LabelledClipBatch) for batch in seen[kind])
        assert all(batch.domain == "target" for batch in seen[kind])
    keys = {kind: {key for batch in batches for key in batch.keys} for kind, batches in seen.items()}
    assert not keys["prepare target"] & keys["predict"]
    assert len(keys["prepare target"]) == len(keys["prepare source"]) == 8
    truth = read_annotations(tmp_path / "ground_truth.csv")
    assert {key.video_id for key in keys["predict"]} == set(truth.video_id)
    found = maps(tmp_path)
    assert found["source-only"] == found["source-only + spy"]


def test_methods_do_not_change_what_is_tested_after_them(run_folder, tmp_path):
    methods = ["adabn", "tent", "vitta"]
    for name, order in (("one", methods), ("other", methods[::-1])):
        assert run_test("--run", run_folder, "--method", *order, "--output", tmp_path / name) == 0
    assert maps(tmp_path / "one") == maps(tmp_path / "other")
    assert len(maps(tmp_path / "one")) == 8


def test_splits_are_told_apart_and_none_is_augmented(run_folder, tmp_path):
    counts = {}
    for split in ("train", "val", "test"):
        folders = [tmp_path / f"{split}{number}" for number in range(2)]
        words = ["--run", run_folder, "--variant", "source_only", "--split", split]
        for seed, folder in enumerate(folders):
            assert run_test(*words, "--output", folder, f"seed={seed}") == 0
        assert maps(folders[0]) == maps(folders[1])
        counts[split] = results(folders[0])["tested"][0]["scores"]["num_keyframes"]
    assert counts == {"train": 8, "val": 4, "test": 12}


def test_a_file_is_the_same_detector_as_in_its_run(run_folder, tmp_path):
    file = run_folder / "checkpoints" / "adapt" / "detector.pt"
    elsewhere = shutil.copy(file, tmp_path / "mine.pt")
    data = ["--data", "synthetic:microgravity"]
    keys = [key for key in KEYS if key.startswith(("synthetic", "evaluation", "trainer"))]
    assert run_test("--run", run_folder, "--variant", "adapted", "--output", tmp_path / "run") == 0
    assert run_test("--checkpoint", file, *data, "--output", tmp_path / "in_run") == 0
    assert run_test("--checkpoint", elsewhere, *data, "--output", tmp_path / "file", "--method", "roll_tta", *keys) == 0
    assert maps(tmp_path / "in_run") == maps(tmp_path / "run")
    alone = maps(tmp_path / "file")
    assert list(alone) == ["r2plus1d_micro from mine.pt", "r2plus1d_micro from mine.pt + roll_tta"]
    assert alone["r2plus1d_micro from mine.pt"] == maps(tmp_path / "run")["adapted (dann)"]


def test_results_go_into_the_folder_of_the_run_and_comparisons_do_not_take_them_for_runs(run_folder, tmp_path):
    from microg_da.reporting.run_comparison import find_runs

    copy = shutil.copytree(run_folder, tmp_path / "runs" / "copy")
    assert run_test("--run", copy, "--variant", "source_only", "--split", "val") == 0
    assert results(copy / "tests" / "synthetic-microgravity-val")["split"] == "val"
    (copy / "results.json").write_text("{}")
    assert find_runs([tmp_path / "runs"]) == [copy]


def test_an_oracle_is_stamped(run_folder, tmp_path, capsys):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("oracle: false", "oracle: true"))
    assert run_test("--run", copy, "--split", "val", "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("oracle") == 2
    assert all("oracle" in name for name in maps(tmp_path / "out"))


def test_options_of_the_run_s_data_are_not_those_of_other_data():
    from microg_da.training.candidates import _tested

    config = load_config("ava2microg", ["data.target=microg4m:/one", "data.target_options={footage: real}"])
    assert _tested(config, "microg4m:/other", {}).data.target_options == {"footage": "real"}
    assert _tested(config, "ava:/other", {}).data.target_options == {}
    asked = _tested(config, "ava:/other", {"data.target_options": {"gravity": "rolled"}})
    assert asked.data.target_options == {"gravity": "rolled"}
    assert config.data.target_options == {"footage": "real"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "RUN", "--method", "dann"], "does not act on a trained detector"),
        (["--run", "RUN", "--method", "roll_tat"], "'roll_tta'"),
        (["--run", "RUN", "--method", "roll_tta?roll=4"], "'rolls'"),
        (["--run", "RUN", "--method", "roll_tta?rolls"], "of the form key=value"),
        (["--run", "RUN", "--method", "tent", "tent"], "given twice"),
        (["--run", "RUN", "--split", "tset"], "'test'"),
        (["--run", "RUN", "--variant", "adaptd"], "'adapted'"),
        (["--run", "RUN", "--variant", "target_supervised"], "source_only, adapted"),
        (["--run", "RUN", "--data", "microg4m:/nowhere"], "/nowhere"),
        (["--run", "RUN", "--data", "nothing"], "not a data source"),
        (["--run", "RUN", "training.epochs=3"], "training.epochs"),
        (["--run", "RUN", "data.target=synthetic:earth"], "set by --data"),
        (["--run", "RUN", "data.taxonomy=ava80"], "set by"),
        (["--run", "RUN", "--model", "x3d_s_13x6"], "--model applies to --checkpoint"),
        (["--run", "nowhere"], "is not a run folder"),
        ([], "Give either --run RUN or --checkpoint FILE"),
        (["--checkpoint", "FILE"], "--checkpoint needs --data SOURCE"),
        (["--checkpoint", "FILE", "--data", "synthetic:earth", "--method", "vitta"], "Add data.source=SOURCE"),
        (["--checkpoint", "none.pt", "--data", "synthetic:earth"], "the checkpoint does not exist"),
        (
            ["--checkpoint", "FILE", "--data", "synthetic:earth", "--model", "x3d_s_13x6"],
            "contains the model r2plus1d_micro",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(run_folder, tmp_path, capsys, words, message):
    file = shutil.copy(run_folder / "checkpoints" / "source" / "detector.pt", tmp_path / "mine.pt")
    words = [{"RUN": run_folder, "FILE": file}.get(word, word) for word in words]
    assert run_test(*words, *([] if words[-1:] == [file] else ["--output", tmp_path / "out"])) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
