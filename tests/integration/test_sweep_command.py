"""`sweep` as a user starts it, and a trial as W&B's agent starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
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
UNTRACKED = TINY | {"logger": "csv"}
"""Without W&B, whose process takes longer to start than such a trial; the agent's test has it."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_of_the_repository_runs_from_its_file_to_its_best_experiment(tmp_path, capsys):
    words = [f"{key}={value}" for key, value in UNTRACKED.items()]
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
    values = TINY | {
        "adaptation.name": "dann",
        "adaptation.args.weight": 0.1,
        "adaptation.lr": 0.001,
        "augment.rotation": 0,
        "seed": 1,
    }
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
    assert "training.epochs=1" in capsys.readouterr().err


def children(pid):
    """The processes that a process has started: the number of each, and its command line."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(n): Path(f"/proc/{n}/cmdline").read_text().split("\0") for n in numbers}


def wait_for(what, process):
    """Until there is something, while the process runs."""
    deadline = time.monotonic() + 200
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_worker_that_is_killed_in_the_middle_of_training_is_replaced_at_once(tmp_path):
    folder = tmp_path / "sweeps" / "dann"
    # Nothing that happens here happens because a sign of life is missing.
    words = ["dann", "--trials", "2", "--workers", "2", "--heartbeat", "600", "--runs", str(tmp_path)]
    words += [f"{key}={value}" for key, value in UNTRACKED.items()]
    command = [sys.executable, "-m", "microg_da", "sweep", *words]
    sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def working():
        """Each worker whose trial trains, and the name of the trial."""
        trials = {
            worker: words[words.index("--name") + 1]
            for worker in children(sweep.pid)
            for words in children(worker).values()
            if "--name" in words
        }
        return {w: name for w, name in trials.items() if list(folder.glob(f"*/{name}/metrics/*/metrics.csv"))}

    try:
        killed, name = next(iter(wait_for(working, sweep).items()))
        first = set(children(sweep.pid))
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: set(children(sweep.pid)) - first, sweep)
        _, said = sweep.communicate(timeout=500)
    finally:
        sweep.kill()
    assert sweep.returncode == 0
    lost = int(name.removeprefix("trial-"))
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    trials = optuna.load_study(study_name="dann", storage=storage).get_trials()
    (again,) = [trial for trial in trials if trial.system_attrs.get("retry_history") == [lost]]
    assert trials[lost].state.name == "FAIL"
    assert again.params == trials[lost].params
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == 2
    assert again in complete
    (note,) = [line for line in said.splitlines() if "SIGKILL" in line]
    assert [f"trial {lost}" in note, f"trial {again.number}" in note] == [True, True]
    # It is said when it happens, and not when all is done.
    assert said.index(note) < said.index(f"trial {again.number}:", said.index(note)) < said.index("page:")
