"""Workers: processes, on one machine or several, that take trials from one study until there are no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import time
import uuid
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from microg_da.errors import InputError
from microg_da.sweeps.file import SweepFile, read_sweep
from microg_da.sweeps.study import (
    MAX_RETRIES,
    WORKER,
    begin_lost_trials_again,
    begin_stale_trials_again,
    counting_trials,
    give_back,
    is_surplus,
    open_storage,
    open_study,
    reached_target,
    reseed,
)
from microg_da.sweeps.trial import TrialError, TrialRunner

DEFAULT_TRIALS = 20
"""How many trials a random or bayes sweep has if neither the file (``run_cap``) nor the user says."""

INTERRUPTED = 130
"""The exit status of a worker that was asked to end."""


@dataclass(frozen=True)
class Plan:
    """What to run; the same in every worker.

    Attributes:
        file: the sweep file.
        name: of the study and the sweep's folder.
        folder: where runs, logs and results go.
        storage: URL of the study.
        trials: how many there are to be in the end, those of earlier commands and other workers included.
        seed: of the search.
        heartbeat: seconds between signs of life of a running trial.
        overrides: words added to every trial's command line.
    """

    file: str
    name: str
    folder: Path
    storage: str
    trials: int
    seed: int = 0
    heartbeat: int = 60
    overrides: tuple[str, ...] = ()

    def open(self) -> tuple[SweepFile, Study]:
        """The sweep file, read again, and its study."""
        sweep = read_sweep(self.file, self.overrides, check=False)
        return sweep, open_study(sweep, self.name, open_storage(self.storage, self.heartbeat), self.seed)


def total_trials(sweep: SweepFile, asked: int | None) -> int:
    """How many trials a sweep has: what was asked for, else the file's ``run_cap``, else all of a grid."""
    cap = asked or sweep.content.get("run_cap") or sweep.grid_size or DEFAULT_TRIALS
    return min(cap, sweep.grid_size) if sweep.grid_size else cap


def run_plan(plan: Plan, workers: int, console: Console) -> Study:
    """Run trials until the plan is fulfilled.

    With several workers each is a process of its own. This process then does what they have left undone.
    """
    sweep, study = plan.open()
    if not study.get_trials(deepcopy=False) and any(plan.folder.glob("*/trial-*")):
        raise InputError(f"{plan.folder} holds the trials of another study. Choose another --name, or remove it.")
    if workers > 1:
        _run_workers(plan, sweep, study, workers, console)
    work(plan, console)
    return study


def _run_workers(plan: Plan, sweep: SweepFile, study: Study, workers: int, console: Console) -> None:
    """Run worker processes until all have ended, and replace those that die while there are trials to begin."""
    alive = [_start_worker(plan) for _ in range(workers)]
    replacements = _Replacements(MAX_RETRIES * workers)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while alive:
            ended = connection.wait([process.sentinel for process in alive])
            for process in [process for process in alive if process.sentinel in ended]:
                process.join()
                alive.remove(process)
                if process.exitcode == INTERRUPTED:
                    _note(console, "a worker was asked to end; its trial, if it had one, waits for another worker")
                elif process.exitcode:
                    alive += _replace(process, plan, sweep, study, replacements, console)
    except KeyboardInterrupt:
        for process in alive:
            process.terminate()
        for process in alive:
            process.join()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Replacements:
    """How many workers may be replaced before the next trial is finished.

    A trial that kills its workers fails after its last attempt and is then finished. The limit is for workers that
    die before they begin a trial.
    """

    most: int
    taken: int = 0
    finished: int = 0

    def take(self, finished: int) -> bool:
        """Whether one more may be replaced, when so many trials are finished."""
        if finished > self.finished:
            self.taken, self.finished = 0, finished
        self.taken += 1
        return self.taken <= self.most


def _start_worker(plan: Plan) -> BaseProcess:
    # Trials are stored with the name of their worker, which must be unique among all machines.
    name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
    process = multiprocessing.get_context("spawn").Process(target=_work_in_process, args=(plan,), name=name)
    process.start()
    return process


def _replace(
    dead: BaseProcess, plan: Plan, sweep: SweepFile, study: Study, replacements: _Replacements, console: Console
) -> list[BaseProcess]:
    """Say what becomes of the trial of a worker that died, and start another worker if there is work for it."""
    death = _death(dead.exitcode or 0)
    facts = [f"a worker {death}"]
    for number, again in begin_lost_trials_again(study, dead.name, f"its worker {death}"):
        attempt = "has failed: it was its last attempt" if again is None else f"is begun again as trial {again}"
        facts.append(f"its trial {number} {attempt}")
    started = []
    if _what_is_left(study, sweep, plan.trials) != "trials":
        facts.append("no other trial is left to begin")
    elif replacements.take(sum(trial.state.is_finished() for trial in counting_trials(study))):
        started = [_start_worker(plan)]
        facts.append("another worker replaces it")
    else:
        facts.append(f"it is not replaced: {replacements.most} were, and no trial was finished since")
    _note(console, "; ".join(facts))
    return started


def _death(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def _note(console: Console, text: str) -> None:
    console.print(f"[yellow]note[/yellow] {text}")


def _work_in_process(plan: Plan) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        work(plan, console)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except InputError as error:
        console.print(f"microg_da: {error}", markup=False)
        raise SystemExit(2) from None


def work(plan: Plan, console: Console) -> None:
    """Take trials until as many are done as the plan wants, and no other worker's can still come back."""
    sweep, study = plan.open()
    runner = TrialRunner(sweep, plan.folder)
    # A scheduler ends a job by SIGTERM; the trial is then given back, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, partial(_interrupt, runner))
    try:
        while (state := _what_is_left(study, sweep, plan.trials)) != "nothing":
            if state == "others":
                time.sleep(min(plan.heartbeat, 5))
                begin_stale_trials_again(study)
            else:
                _one_trial(study, sweep, runner, plan, console)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(runner: TrialRunner, *_: Any) -> None:
    runner.interrupted = True
    raise KeyboardInterrupt


def _what_is_left(study: Study, sweep: SweepFile, total: int) -> str:
    """``trials`` to begin, trials of ``others`` that may yet be given back, or ``nothing``."""
    states = [trial.state for trial in counting_trials(study)]
    if TrialState.WAITING in states:
        return "trials"
    if len(states) < total and not reached_target(study, sweep):
        return "trials"
    return "others" if TrialState.RUNNING in states else "nothing"


def _one_trial(study: Study, sweep: SweepFile, runner: TrialRunner, plan: Plan, console: Console) -> None:
    begun: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        if is_surplus(study, trial, plan.trials):
            raise TrialError("surplus")
        begun.append(trial.number)
        trial.set_user_attr(WORKER, multiprocessing.current_process().name)
        reseed(study, sweep, plan.seed, trial.number)
        values = sweep.suggest(trial)
        trial.set_user_attr("values", values)
        shown = ", ".join(f"{name}={_short(values[name])}" for name in sweep.varied)
        console.print(f"trial {trial.number}: {shown}", markup=False)
        start = time.perf_counter()
        try:
            return runner.run(trial, values)
        except TrialError as error:
            trial.set_user_attr("reason", str(error))
            raise
        finally:
            trial.set_user_attr("seconds", round(time.perf_counter() - start, 1))

    try:
        study.optimize(objective, n_trials=1, catch=(TrialError,))
    except KeyboardInterrupt:
        for number in begun:
            give_back(study, number)
        raise
    for number in begun:
        console.print(_outcome(study.get_trials(deepcopy=False)[number], sweep), markup=False)


def _outcome(trial: optuna.trial.FrozenTrial, sweep: SweepFile) -> str:
    seconds = f"{trial.user_attrs.get('seconds', 0):.0f} s"
    if trial.state == TrialState.COMPLETE:
        result = "done" if sweep.metric is None else f"{sweep.metric.name} {trial.value:.4f}"
    else:
        result = f"{trial.state.name.lower()}: {trial.user_attrs.get('reason', 'no reason known')}"
    return f"trial {trial.number}: {result}, after {seconds}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
