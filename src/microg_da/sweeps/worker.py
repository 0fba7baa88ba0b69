"""Workers: processes, on one machine or several, that take trials from one study until there are no more."""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from microg_da.errors import InputError
from microg_da.sweeps.file import SweepFile, read_sweep
from microg_da.sweeps.study import (
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

    With several workers each is a process of its own. This one then does what is left, should one have died.
    """
    _, study = plan.open()
    if not study.get_trials(deepcopy=False) and any(plan.folder.glob("*/trial-*")):
        raise InputError(f"{plan.folder} holds the trials of another study. Choose another --name, or remove it.")
    if workers > 1:
        _run_workers(plan, workers, console)
    work(plan, console)
    return study


def _run_workers(plan: Plan, workers: int, console: Console) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work_in_process, args=(plan,)) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
            if process.exitcode:
                console.print(
                    f"[yellow]note[/yellow] a worker died (status {process.exitcode}); its trial is begun again"
                )
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise


def _work_in_process(plan: Plan) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        work(plan, console)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
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
