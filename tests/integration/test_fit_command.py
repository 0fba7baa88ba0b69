"""The main job, run as a user runs it, on a configuration so small that it learns nothing."""

import json
import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest
import quick
import torch
from commands import Command, run

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.runs.detectors import build_detector, describe_detector
from microg_da.runs.folder import Run

TINY = [
    "training.epochs=2",
    "adaptation.epochs=2",
    "target_supervised.epochs=2",
    "training.batch_size=8",
    "evaluation.batch_size=8",
    "data.image_size=48",
    "synthetic.train_clips=24",
    "synthetic.val_clips=8",
    "synthetic.test_clips=16",
    "synthetic.workers=0",
]


@pytest.fixture(scope="module")
def finished(_own_cache, tmp_path_factory):
    """A whole run with bounds, from a working folder that is not the repository."""
    folder = tmp_path_factory.mktemp("work")
    words = ["fit", "--experiment", "ava2microg", "--name", "whole", *TINY, *quick.UP, "--bounds", "true"]
    done = run(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "ava2microg" / "whole", done


def detections(folder, name):
    return pd.read_csv(folder / "detections" / f"{name}.csv.gz")


def test_it_says_what_it_ran_on_and_prints_one_table(finished):
    _, done = finished
    assert done.stderr.startswith("note embedded synthetic data")
    for row in ("source-only", "adapted", "target-supervised"):
        assert row in done.stdout
    assert "report.html" in done.stderr


def test_the_folder_holds_what_the_design_says(finished):
    folder, _ = finished
    expected = ["config.yaml", "run.json", "environment.json", "results.json", "results.csv", "report.html"]
    assert not [name for name in expected if not (folder / name).is_file()]
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["embedded_data"] is True
    assert record["selection"] == "last"
    assert record["oracle"] is False
    assert not list(folder.rglob(".tmp-*"))


def test_the_figures_are_those_that_evaluate_gives_for_the_written_files(finished):
    folder, _ = finished
    variants = json.loads((folder / "results.json").read_text())["variants"]
    assert list(variants) == ["source_only", "adapted", "target_supervised"]
    files = [
        "--detections",
        folder / "detections/adapted_target.csv.gz",
        "--ground-truth",
        folder / "ground_truth/target.csv",
    ]
    scored = run("evaluate", *files, "--protocol", "corrected", "--json")
    assert scored.returncode == 0, scored.stderr
    scores = json.loads(scored.stdout)
    for name in ("map", "f1_macro", "recall_macro", "auroc_macro"):
        # Files have fewer decimals than the run had, which may turn two scores into a tie.
        assert scores[name] == pytest.approx(variants["adapted"]["target"][name], abs=2e-3)


def test_the_gap_recovered_is_what_its_definition_says(finished):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    low, adapted, high = (result["target"]["map"] for result in results["variants"].values())
    found = results["finding"]
    assert found["gap"]["value"] == pytest.approx(high - low)
    assert found["same_data"] is False
    assert found["boxes"] == results["variants"]["adapted"]["target"]["num_boxes"]
    if found["gap"]["low"] is not None and found["gap"]["low"] > 0:
        assert results["gap_recovered"] == pytest.approx((adapted - low) / (high - low))
        assert found["absent"] is None
    else:
        assert results["gap_recovered"] is None
        assert found["absent"] in ("no_interval", "gap_not_measurable", "no_gap")


def test_its_saved_configuration_repeats_the_run(finished):
    folder, _ = finished
    again = run("fit", "--config", folder / "config.yaml", "--runs", folder.parent / "again", "bounds=false")
    assert again.returncode == 0, again.stderr
    (repeated,) = (folder.parent / "again" / "ava2microg").iterdir()
    for name in ("source_only_source", "source_only_target", "adapted_source", "adapted_target"):
        pd.testing.assert_frame_equal(detections(folder, name), detections(repeated, name))


@pytest.mark.parametrize("stage", ["source", "adapt"])
def test_a_run_killed_in_a_stage_continues_to_the_same_result(finished, stage):
    whole, _ = finished
    folder = whole.parent / f"killed-{stage}"
    # Enough epochs that the kill falls into the stage; the comparison below is with a run of the same length.
    words = ["fit", "--experiment", "ava2microg", "--runs", whole.parents[1], "--name", folder.name, *TINY, *quick.UP]
    process = Command(*words)
    checkpoint = folder / "checkpoints" / stage / "last.ckpt"
    while not checkpoint.exists() and process.running():
        time.sleep(0.01)
    process.kill()
    assert checkpoint.exists()
    assert not (folder / "results.json").exists() or len(Run(folder).results.variants) < 2
    resumed = run("fit", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("source_only_target", "adapted_target"):
        pd.testing.assert_frame_equal(detections(whole, name), detections(folder, name))
    curves = pd.read_csv(folder / "metrics" / stage / "metrics.csv")
    assert sorted(curves["epoch"].unique()) == [0, 1]


def test_mistakes_are_told_in_one_line_with_status_2(tmp_path, finished, capfd):
    whole, _ = finished
    for words, part in [
        (["--experiment", "ava2microgg"], "ava2microg"),
        (["--experiment", "ava2microg", "training.epoch=3"], "training.epochs"),
        (["--resume", tmp_path], "config.yaml"),
        (["--config", whole / "config.yaml", "--experiment", "x"], "cannot be combined"),
        (["--experiment", "ava2microg", "data.target=synthetic:moon", *TINY, "--runs", tmp_path], "microgravity"),
        (["--experiment", "ava2microg", "--name", "whole", "--runs", whole.parents[1], *TINY], "--resume"),
        (["--experiment", "ava2microg", "adaptation.args.wieght=1", "--runs", tmp_path, *TINY], "weight"),
        (["--experiment", "ava2microg", "--runs", whole / "run.json" / "below", *TINY], "cannot write"),
    ]:
        assert main(["fit", *map(str, words)]) == 2, words
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith("microg_da: ")
        assert part in said
    assert not list(tmp_path.iterdir())


def test_a_mistake_leaves_no_traceback_in_a_new_interpreter():
    words = [sys.executable, "-m", "microg_da", "fit", "--experiment", "ava2microg", "trainig.epochs=3"]
    failed = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.strip().splitlines() == [failed.stderr.strip()]
    assert "training.epochs" in failed.stderr


def test_wandb_works_without_an_account(tmp_path, finished):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    offline = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    words = ["fit", "--experiment", "ava2microg", "--name", "tracked", *TINY, "--logger=csv,wandb", "adaptation=adabn"]
    done = run(*words, cwd=tmp_path, environment=offline | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "ava2microg" / "tracked"
    assert len(list(folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1
    # The figures do not depend on who logs them.
    whole, _ = finished
    pd.testing.assert_frame_equal(detections(whole, "source_only_target"), detections(folder, "source_only_target"))


@pytest.mark.parametrize(
    ("word", "stride"), [("model.roi_stride=auto", "24.0"), ("model.roi_stride=true", "true")], ids=["auto", "true"]
)
def test_a_loaded_head_keeps_the_roi_stride_it_was_trained_at(tmp_path, capsys, word, stride):
    """The run's config.yaml holds what `auto` came to; a stride that the user gives wins."""
    words = ["model=r2plus1d_tiny", "model.num_frames=2", *TINY, "adaptation=source_only", word]
    there = load_config("ava2microg", [*words, "model.roi_stride=24"])
    detector = build_detector(there)
    torch.save(describe_detector(there).as_dict() | {"state_dict": detector.state_dict()}, tmp_path / "trained.pt")
    words += [f"checkpoint={tmp_path / 'trained.pt'}", "synthetic.test_clips=4", "trainer.accelerator=cpu"]
    assert main(["fit", "--runs", str(tmp_path), "--name", "run", *words]) == 0
    config = (tmp_path / "ava2microg" / "run" / "config.yaml").read_text()
    assert re.search(rf"^  roi_stride: {stride}$", config, re.MULTILINE)
    assert ("trained.pt: RoI stride 24" in capsys.readouterr().err) == (stride != "true")
