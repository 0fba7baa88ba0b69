"""Workers: processes on one or several machines that run the trials of one study until none is left."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TextIO, cast

import optuna
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console
from rich.text import Text

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
from microg_da.terminal import WITHOUT_TERMINAL, progress_bar

DEFAULT_TRIALS = 20
"""The default number of trials of random and bayes sweeps."""

INTERRUPTED = 130
"""The exit status of a terminated worker."""

REFRESH_SECONDS = 1.0
"""Interval in seconds at which the progress bar reads the number of finished trials."""


@dataclass(frozen=True)
class Plan:
    """Settings of the trials, which are the same in every worker.

    Attributes:
        file: the sweep file.
        name: name of the study and of the sweep's folder.
        folder: folder of runs, logs and results.
        storage: URL of the storage.
        trials: total number of trials, including those of earlier commands and other workers.
        seed: seed of the search.
        heartbeat: seconds between heartbeats of a running trial.
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
        """Read the sweep file and open its study."""
        sweep = read_sweep(self.file, self.overrides, check=False)
        return sweep, open_study(sweep, self.name, open_storage(self.storage, self.heartbeat), self.seed)


def total_trials(sweep: SweepFile, asked: int | None) -> int:
    """Return the number of trials: as requested, else ``run_cap`` of the file, else the size of the grid."""
    cap = asked or sweep.run_cap or sweep.grid_size or DEFAULT_TRIALS
    return min(cap, sweep.grid_size) if sweep.grid_size else cap


def run_plan(plan: Plan, workers: int, console: Console) -> Study:
    """Run trials until the planned number is reached.

    Several workers run in separate processes. Afterwards, this process runs the remaining trials.
    """
    sweep, study = plan.open()
    if not study.get_trials(deepcopy=False) and any(plan.folder.glob("*/trial-*")):
        raise InputError(
            f"{plan.folder} contains the trials of another study. Choose another --name, or remove the folder."
        )
    if workers > 1:
        _Workers(plan, sweep, study, workers, console).run()
    work(plan, console)
    return study


class _Workers:
    """Worker processes. A worker that dies is replaced while trials are left.

    Each worker prints through a pipe, and the end of the pipe marks the end of the worker.
    """

    def __init__(self, plan: Plan, sweep: SweepFile, study: Study, count: int, console: Console) -> None:
        self.plan, self.sweep, self.study, self.console = plan, sweep, study, console
        self.replacements = _Replacements(MAX_RETRIES * count)
        self.running: dict[Connection, SpawnProcess] = {}
        self.count = count

    def run(self) -> None:
        """Run until all workers have ended; on SIGINT or SIGTERM terminate them."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for _ in range(self.count):
                self._start()
            with _trial_bar(self.plan.trials, self.console) as show:
                while self.running:
                    ready = wait([*self.running], REFRESH_SECONDS)
                    for messages in [messages for messages in self.running if messages in ready]:
                        self._read_messages(messages)
                    show(self.study)
        except KeyboardInterrupt:
            for process in self.running.values():
                process.terminate()
            for process in self.running.values():
                process.join()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        messages, its_end = context.Pipe(duplex=False)
        # Trials are stored with the name of their worker, so the name must be unique among all machines.
        name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        process = context.Process(target=_work_in_process, args=(self.plan, its_end), name=name)
        self.running[messages] = process
        process.start()
        # The worker has the only open end, so the pipe ends when the worker dies.
        its_end.close()

    def _read_messages(self, messages: Connection) -> None:
        """Print the output of a worker. When the worker ends, remove it from the list, and replace it if it died."""
        try:
            self.console.print(Text.from_ansi(messages.recv()))
        except EOFError:
            process = self.running.pop(messages)
            process.join()
            if process.exitcode == INTERRUPTED:
                self._note("a worker was terminated; its trial, if any, is queued for another worker")
            elif process.exitcode:
                self._replace(process)

    def _replace(self, dead: SpawnProcess) -> None:
        """Report the trial of a worker that died, and start another worker if trials are left."""
        death = _death(dead.exitcode or 0)
        facts = [f"a worker {death}"]
        for number, again in begin_lost_trials_again(self.study, dead.name, f"its worker {death}"):
            attempt = "has failed in its last attempt" if again is None else f"is restarted as trial {again}"
            facts.append(f"its trial {number} {attempt}")
        if _remaining_work(self.study, self.sweep, self.plan.trials) != "trials":
            facts.append("no other trial is left to start")
        elif self.replacements.take(sum(trial.state.is_finished() for trial in counting_trials(self.study))):
            self._start()
            facts.append("another worker replaces it")
        else:
            facts.append(
                f"the worker is not replaced: {self.replacements.most} were replaced since the last finished trial"
            )
        self._note("; ".join(facts))

    def _note(self, text: str) -> None:
        self.console.print(f"[yellow]note[/yellow] {text}")


@dataclass
class _Replacements:
    """Limit of the number of replaced workers between two finished trials.

    A trial that kills its workers is finished after its last attempt. The limit is for workers that die before they
    start a trial.
    """

    most: int
    taken: int = 0
    finished: int = 0

    def take(self, finished: int) -> bool:
        """Return whether one more worker may be replaced, given the number of finished trials."""
        if finished > self.finished:
            self.taken, self.finished = 0, finished
        self.taken += 1
        return self.taken <= self.most


def _death(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


class _Messages(io.TextIOBase):
    """A text file whose lines another process prints, because two printing processes would overwrite the bar."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, text: str) -> int:
        with contextlib.suppress(BrokenPipeError):  # the reader has ended
            self._connection.send(text.removesuffix("\n"))
        return len(text)


@contextlib.contextmanager
def _trial_bar(total: int, console: Console) -> Iterator[Callable[[Study], None]]:
    """Show a progress bar of trials on a terminal; yield the function that updates the bar from a study."""
    with progress_bar(console) as bar:
        task = bar.add_task("trials", total=total)

        def show(study: Study) -> None:
            if not bar.disable:
                done = sum(trial.state.is_finished() for trial in counting_trials(study))
                bar.update(task, completed=done, description=f"trials, {done} of {total}")

        yield show


def _work_in_process(plan: Plan, messages: Connection) -> None:
    console = Console(file=cast("TextIO", _Messages(messages)), highlight=False, width=WITHOUT_TERMINAL)
    try:
        work(plan, console)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except InputError as error:
        console.print(f"microg_da: {error}", markup=False)
        raise SystemExit(2) from None


def work(plan: Plan, console: Console) -> None:
    """Run trials until the planned number is finished and no other worker can release a trial."""
    sweep, study = plan.open()
    runner = TrialRunner(sweep, plan.folder)
    # A scheduler ends a job with SIGTERM; the trial is then queued again, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, partial(_interrupt, runner))
    try:
        with _trial_bar(plan.trials, console) as show:
            while (state := _remaining_work(study, sweep, plan.trials)) != "nothing":
                show(study)
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


def _remaining_work(study: Study, sweep: SweepFile, total: int) -> str:
    """Return ``trials`` if trials are left, ``others`` if other workers may release trials, or ``nothing``."""
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
