"""The Optuna engine with trials that take no time: search, stopping, sharing, resuming, dying."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from microg_da.errors import InputError
from microg_da.sweeps import worker as workers
from microg_da.sweeps.file import read_sweep
from microg_da.sweeps.study import MAX_RETRIES, counting_trials, open_storage
from microg_da.sweeps.trial import TrialRunner
from microg_da.sweeps.worker import Plan, _one_trial, _work_in_process, run_plan, total_trials, work

QUIET = Console(quiet=True)


def worker_process(plan):
    """A worker whose messages nobody reads."""
    context = get_context("spawn")
    _, its_end = pipe = context.Pipe(duplex=False)
    process = context.Process(target=_work_in_process, args=(plan, its_end))
    process.messages = pipe  # both ends stay open as long as the process is known
    return process


@pytest.fixture
def make_plan(tmp_path):
    """What to run of a sweep file, stored beside it."""

    def make(path, trials=None, storage="sqlite:///{}/study.db", **options):
        total = total_trials(read_sweep(str(path), check=False), trials)
        folder = tmp_path / "runs" / "sweeps" / path.stem
        return Plan(str(path), path.stem, folder, storage.format(folder), total, **{"heartbeat": 1} | options)

    return make


@pytest.fixture
def hold(stand_in):
    """As long as this file is there, trials do not end."""
    path = stand_in.parent / "hold"
    path.touch()
    return path


def wait_for_trials(study, count):
    """Until that many trials run at once."""
    deadline = time.monotonic() + 200
    while sum("run" in trial.user_attrs for trial in study.get_trials(states=(TrialState.RUNNING,))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def values(study, state=TrialState.COMPLETE):
    return [trial.user_attrs["values"] for trial in study.get_trials(states=(state,))]


def test_a_grid_visits_every_point_once(make_quick_sweep, make_plan):
    parameters = {"training.lr": {"values": [0.1, 0.2]}, "seed": {"min": 3, "max": 5}, "bounds": {"value": False}}
    study = run_plan(make_plan(make_quick_sweep(method="grid", parameters=parameters)), 1, QUIET)
    assert isinstance(study.sampler, optuna.samplers.GridSampler)
    points = sorted((v["training.lr"], v["seed"]) for v in values(study))
    assert points == sorted(itertools.product([0.1, 0.2], [3, 4, 5]))
    assert study.best_value == 0.2


@pytest.mark.slow
def test_what_is_drawn_depends_on_seed_and_number_and_not_on_workers(make_quick_sweep, make_plan):
    one = run_plan(make_plan(make_quick_sweep("one"), 4), 1, QUIET)
    two = run_plan(make_plan(make_quick_sweep("two"), 4), 2, QUIET)
    other = run_plan(make_plan(make_quick_sweep("other"), 4, seed=1), 1, QUIET)
    drawn = [sorted(v["training.lr"] for v in values(study)) for study in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4


@pytest.mark.slow
def test_bayes_learns_where_the_metric_is_high(make_quick_sweep, make_plan):
    study = run_plan(make_plan(make_quick_sweep(method="bayes"), 18), 1, QUIET)
    assert isinstance(study.sampler, optuna.samplers.TPESampler)
    drawn = [v["training.lr"] for v in values(study)]
    assert sum(drawn[12:]) / 6 > sum(drawn[:10]) / 10


def test_the_metric_may_be_a_result_or_a_validator(make_quick_sweep, make_plan):
    for name, sign in (("adapted/source_map", 1), ("validator/entropy", -1)):
        path = make_quick_sweep(name.partition("/")[0], metric={"name": name, "goal": "maximize"})
        study = run_plan(make_plan(path, 2), 1, QUIET)
        for trial in study.get_trials():
            assert trial.value == sign * trial.user_attrs["values"]["training.lr"]


@pytest.mark.slow
def test_hyperband_stops_the_trials_that_lag(make_quick_sweep, make_plan):
    epochs = {"training.epochs": {"value": 9}, "training.warmup_epochs": {"value": 0.3}}
    path = make_quick_sweep(
        method="grid",
        parameters={"training.lr": {"values": [0.001, 0.002, 0.003, 0.4]}, **epochs},
        early_terminate={"type": "hyperband", "max_iter": 9, "s": 2, "eta": 3},
    )
    study = run_plan(make_plan(path), 1, QUIET)
    assert isinstance(study.pruner, optuna.pruners.HyperbandPruner)
    best = study.best_trial
    assert best.user_attrs["values"]["training.lr"] == 0.4
    assert best.intermediate_values == {step: pytest.approx(0.4 * step) for step in range(1, 10)}
    stopped = study.get_trials(states=(TrialState.PRUNED,))
    assert stopped
    for trial in stopped:
        assert "stopped early" in trial.user_attrs["reason"]
        assert max(trial.intermediate_values) < 9


def test_a_refused_trial_and_a_failed_one_give_their_reason_and_the_sweep_goes_on(make_quick_sweep, make_plan):
    path = make_quick_sweep(method="grid", parameters={"data.image_size": {"values": [16, 17, 32]}})
    study = run_plan(make_plan(path), 1, QUIET)
    outcomes = {trial.user_attrs["values"]["data.image_size"]: trial for trial in study.get_trials()}
    assert {size: trial.state.name for size, trial in outcomes.items()} == {16: "PRUNED", 17: "FAIL", 32: "COMPLETE"}
    assert outcomes[16].user_attrs["reason"] == "refused: the images are too small"
    assert outcomes[17].user_attrs["reason"].startswith("out of memory (status 1")


def test_run_again_it_resumes_and_trials_is_the_total(make_quick_sweep, make_plan):
    path = make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1, 2, 3]}})
    assert len(run_plan(make_plan(path, 1), 1, QUIET).trials) == 1
    assert len(run_plan(make_plan(path, 3), 1, QUIET).trials) == 3
    assert len(run_plan(make_plan(path, 2), 1, QUIET).trials) == 3
    study = run_plan(make_plan(path), 1, QUIET)
    assert sorted(v["seed"] for v in values(study)) == [0, 1, 2, 3]
    make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1]}})
    with pytest.raises(InputError, match=r"parameters.*--name"):
        run_plan(make_plan(path), 1, QUIET)


def test_it_ends_once_a_trial_reaches_the_target(make_quick_sweep, make_plan):
    metric = {"name": "adapt-val/map", "goal": "maximize", "target": 0.0}
    assert len(run_plan(make_plan(make_quick_sweep(metric=metric), 5), 1, QUIET).trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite:///{}/study.db", "journal:///{}/study.log"])
def test_a_killed_workers_trial_is_begun_again_and_no_point_is_lost(make_quick_sweep, make_plan, hold, storage):
    parameters = {"seed": {"values": [0, 1, 2, 3]}}
    plan = make_plan(make_quick_sweep(method="grid", parameters=parameters), storage=storage)
    plan.open()
    workers = [worker_process(plan) for _ in range(2)]
    for worker in workers:
        worker.start()
    study = optuna.load_study(study_name=plan.name, storage=open_storage(plan.storage, 1))
    wait_for_trials(study, 2)
    os.kill(workers[0].pid, signal.SIGKILL)
    hold.unlink()
    for worker in workers:
        worker.join(150)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0]
    assert sorted(trial.user_attrs["values"]["seed"] for trial in study.get_trials(states=(TrialState.COMPLETE,))) == [
        *range(4)
    ]
    (lost,) = study.get_trials(states=(TrialState.FAIL,))
    (again,) = [trial for trial in study.get_trials() if trial.system_attrs.get("failed_trial") == lost.number]
    assert again.state == TrialState.COMPLETE
    assert again.params == lost.params
    assert len(counting_trials(study)) == 4


LONG = 600
"""Seconds between signs of life: what is done sooner was not done because they were missing."""


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_others_are_done(make_quick_sweep, make_plan):
    path = make_quick_sweep(method="grid", parameters={"data.image_size": {"values": [18, 32, 48]}})
    console = Console(file=io.StringIO(), width=200)
    study = run_plan(make_plan(path, heartbeat=LONG), 2, console)
    attempts = [t for t in study.get_trials() if t.user_attrs.get("values") == {"data.image_size": 18}]
    assert [trial.state for trial in attempts] == [TrialState.FAIL] * (1 + MAX_RETRIES)
    # Each attempt had a worker of its own.
    assert len({trial.user_attrs["worker"] for trial in attempts}) == len(attempts)
    assert sorted(v["data.image_size"] for v in values(study)) == [32, 48]
    assert "SIGKILL" in attempts[-1].user_attrs["reason"]
    assert not any("reason" in trial.user_attrs for trial in attempts[:-1])
    notes = [line for line in console.file.getvalue().splitlines() if line.startswith("note")]
    said = [tuple(map(int, re.findall(r"trial (\d+)", note))) for note in notes]
    numbers = [trial.number for trial in attempts]
    assert said == [*itertools.pairwise(numbers), (numbers[-1],)]


@pytest.mark.slow
def test_workers_that_die_before_they_begin_a_trial_are_not_replaced_for_ever(make_quick_sweep, make_plan, monkeypatch):
    plan = make_plan(make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1]}}))
    # The file is there for this process and not for the others, which cannot read it.
    started = []
    begin = workers._Workers._start

    def begin_in_vain(pool):
        known = set(pool.running)
        pool.plan = dataclasses.replace(plan, file=f"{plan.file}.none.yaml")
        begin(pool)
        pool.plan = plan
        started.extend(process for messages, process in pool.running.items() if messages not in known)

    monkeypatch.setattr(workers._Workers, "_start", begin_in_vain)
    console = Console(file=io.StringIO(), width=200)
    study = run_plan(plan, 2, console)
    assert [process.exitcode for process in started] == [2] * (2 + 2 * MAX_RETRIES)
    assert console.file.getvalue().count("not replaced") == 2
    assert sorted(v["seed"] for v in values(study)) == [0, 1]


@pytest.mark.slow
def test_an_interrupted_trial_is_given_back(make_quick_sweep, make_plan, hold):
    plan = make_plan(make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1]}}))
    _, study = plan.open()
    worker = worker_process(plan)
    worker.start()
    wait_for_trials(study, 1)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(120)
    hold.unlink()
    assert worker.exitcode == 130
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    work(plan, QUIET)
    assert sorted(v["seed"] for v in values(study)) == [0, 1]


@pytest.mark.slow
def test_a_command_that_is_asked_to_end_ends_its_workers_which_give_their_trials_back(
    make_quick_sweep, make_plan, hold, tmp_path
):
    path = make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1, 2]}})
    words = [str(path), "--workers", "2", "--heartbeat", str(LONG), "--runs", str(tmp_path / "runs")]
    _, study = make_plan(path, heartbeat=LONG, overrides=("logger=csv",)).open()
    command = subprocess.Popen([sys.executable, "-m", "microg_da", "sweep", *words])
    wait_for_trials(study, 2)
    command.terminate()
    assert command.wait(150) == 130
    states = [trial.state for trial in study.get_trials()]
    assert sorted(states) == sorted([TrialState.FAIL, TrialState.WAITING] * 2)


def test_a_signal_that_python_swallows_while_it_forks_ends_the_trial(make_quick_sweep, make_plan, hold, monkeypatch):
    plan = make_plan(make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1]}}))
    begin = subprocess.Popen

    def begin_under_fire(*args, **options):
        # What handlers raise inside the hooks that `os.fork` calls is printed, and gone.
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        return begin(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", begin_under_fire)
    with pytest.raises(KeyboardInterrupt):
        work(plan, QUIET)
    hold.unlink()
    assert [trial.state for trial in plan.open()[1].get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_trials_that_two_workers_began_at_once_are_no_more_than_was_asked_for(make_quick_sweep, make_plan):
    plan = make_plan(make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1, 2]}}), 1)
    sweep, study = plan.open()
    # Both have seen that one trial is missing, and both begin one.
    for _ in range(2):
        _one_trial(study, sweep, TrialRunner(sweep, plan.folder), plan, QUIET)
    assert len(counting_trials(study)) == len(values(study)) == 1
    # The point of the grid that the second one had drawn is not lost.
    run_plan(dataclasses.replace(plan, trials=3), 1, QUIET)
    assert sorted(v["seed"] for v in values(study)) == [0, 1, 2]


@pytest.mark.parametrize(
    "url", ["nosuch://x", "postgresql+psycopg://me:secret@127.0.0.1:1/x", "sqlite:////proc/x/y.db"]
)
def test_a_storage_that_is_not_there_is_named_without_its_password(url):
    with pytest.raises(InputError) as caught:
        open_storage(url, 60)
    assert "--storage" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_folder_of_another_study_is_not_mixed_in(make_quick_sweep, make_plan):
    path = make_quick_sweep()
    run_plan(make_plan(path, 1), 1, QUIET)
    with pytest.raises(InputError, match="--name"):
        run_plan(make_plan(path, 1, storage="sqlite:///{}/other.db"), 1, QUIET)
