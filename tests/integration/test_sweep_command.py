"""`sweep` as a user starts it, and a trial as W&B's agent starts it."""

import json
import os
import sys

import pytest
import yaml

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.config.experiments import find_sweep

TINY = {
    "training.epochs": 1,
    "adaptation.epochs": 2,
    "training.batch_size": 8,
    "evaluation.batch_size": 8,
    "data.image_size": 48,
    "model.num_frames": 2,
    "synthetic.train_clips": 16,
    "synthetic.val_clips": 8,
    "synthetic.test_clips": 8,
    "synthetic.workers": 0,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_of_the_repository_runs_from_its_file_to_its_best_experiment(tmp_path, capsys):
    words = [f"{key}={value}" for key, value in TINY.items()]
    assert main(["sweep", "dann", "--trials", "2", "--runs", str(tmp_path), *words]) == 0
    said = capsys.readouterr()
    folder = tmp_path / "sweeps" / "dann"
    assert "adapt-val/map" in said.out
    assert str(folder / "best.yaml") in said.err
    record = json.loads((folder / "sweep.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["complete", "complete"]
    best = record["trials"][0]
    config = load_config(str(folder / "best.yaml"))
    assert config.adaptation.lr == best["values"]["adaptation.lr"]
    assert config.adaptation.args["weight"] == best["values"]["adaptation.args.weight"]
    assert (folder / "ava2microg" / f"trial-{best['number']:04d}" / "report.html").is_file()
    assert (folder / "sweep.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wandbs_own_agent_starts_the_file_offline(tmp_path, monkeypatch):
    wandb_agent = pytest.importorskip("wandb.wandb_agent")
    content = yaml.safe_load(find_sweep("dann").read_text())
    values = TINY | {"adaptation.args.weight": 0.1, "adaptation.lr": 0.001, "augment.rotation": 0, "seed": 1}
    monkeypatch.chdir(tmp_path)
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": tmp_path, "WANDB_SWEEP_ID": "abc"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")  # noqa: PTH120
    (tmp_path / "wandb" / "sweep-abc").mkdir(parents=True)
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = content["command"]
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "run1", "program": content["program"], "args": args})
    assert agent._run_processes["run1"].wait() == 0
    (run,) = (tmp_path / "runs" / "ava2microg").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert load_config(config=run / "config.yaml").adaptation.args["weight"] == 0.1
    assert list(tmp_path.rglob("*.wandb"))


def test_mistakes_end_with_status_2_and_no_folder(tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text("method: grid\nparameters: {training.lrr: {values: [1]}}\ncommand: [microg_da, fit, '${args}']\n")
    for words in ([str(file)], ["dan"], ["dann", "--trials", "0"], ["dann", "training.epoch=1"]):
        assert main(["sweep", *words, "--runs", str(tmp_path / "runs")]) == 2
        assert "microg_da: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_wandb_as_engine_asks_for_an_account(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["sweep", "dann", "--engine", "wandb"]) == 2
    assert "wandb login" in capsys.readouterr().err
    assert main(["sweep", "dann", "--engine", "wandb", "training.epochs=1"]) == 2
    assert "as it stands" in capsys.readouterr().err
