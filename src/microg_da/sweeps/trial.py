"""One trial: the command of the sweep file as a monitored process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from microg_da.errors import InputError
from microg_da.files import write_text
from microg_da.sweeps.file import SweepFile

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30
"""Time that a terminated process has before it is killed."""


class TrialError(Exception):
    """The process of a trial ended without the metric. The message gives the reason."""


@dataclass
class TrialRunner:
    """Runs trials of one sweep.

    Args:
        sweep: the sweep file.
        folder: the folder of the sweep, with runs in ``folder/<experiment>/trial-NNNN`` and their output in
            ``folder/logs``.
        interrupted: an event that the signal handler sets before it raises, because Python ignores exceptions of
            handlers while a process is being forked.
    """

    sweep: SweepFile
    folder: Path
    interrupted: bool = False

    def run(self, trial: optuna.Trial, values: dict[str, object]) -> float:
        """Run a trial to its end.

        Returns:
            The metric; 0 in a sweep without one.

        Raises:
            optuna.TrialPruned: if the pruner stops the trial, or `fit` rejects the request.
            TrialError: if the process fails, or the run has no such metric.
        """
        name = f"trial-{trial.number:04d}"
        logs = self.folder / "logs"
        request = self.sweep.request(values)
        try:
            run = self.folder / request.config().experiment / name
        except InputError as error:
            raise _refused(trial, str(error)) from error
        args_file = write_text(logs / f"{name}.json", json.dumps(self.sweep.args(values)) + "\n")
        command = self.sweep.expand(values, args_file, sys.executable)
        command += ["--runs", str(self.folder), "--name", name]
        trial.set_user_attr("run", str(run))
        trial.set_user_attr("experiment", request.experiment)
        trial.set_user_attr("keys", request.keys())
        log = logs / f"{name}.log"
        with log.open("w", encoding="utf-8") as output, _process(command, output) as process:
            reported = 0
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                if self.interrupted:
                    raise KeyboardInterrupt
                reported = self._report(trial, run, reported)
            status = process.returncode
        self._report(trial, run, reported, prune=False)  # values that were logged after the last report
        if status == 2:
            raise _refused(trial, _last_line(log))
        if status != 0:
            raise TrialError(f"{_last_line(log)} (status {status}; {log})")
        return self._value(run)

    def _report(self, trial: optuna.Trial, run: Path, reported: int, *, prune: bool = True) -> int:
        """Report the values of the metric that the run has logged since ``reported``; return the new number of values.

        Raises:
            optuna.TrialPruned: if the pruner stops the trial.
        """
        history = self.sweep.metric.history(run) if self.sweep.metric is not None else []
        for step, value in enumerate(history[reported:], start=reported + 1):
            trial.report(value, step)
            if prune and self.sweep.hyperband and trial.should_prune():
                trial.set_user_attr("reason", f"stopped early, at value {step} of the metric")
                raise optuna.TrialPruned
        return max(reported, len(history))

    def _value(self, run: Path) -> float:
        if self.sweep.metric is None:
            return 0.0
        value = self.sweep.metric.value(run)
        if value is None:
            raise TrialError(f"{run} has no {self.sweep.metric.name}")
        return value


def _refused(trial: optuna.Trial, reason: str) -> optuna.TrialPruned:
    trial.set_user_attr("reason", f"refused: {reason.removeprefix('microg_da: ')}")
    return optuna.TrialPruned(reason)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


@contextlib.contextmanager
def _process(command: list[str], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in its own group; at the end of the block, end the process and its children."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path},
        start_new_session=True,
        preexec_fn=_die_with_parent(),
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)


def _die_with_parent() -> Callable[[], object] | None:
    """Return a function that makes a child end together with a killed worker; available on Linux only."""
    if sys.platform != "linux":
        return None
    libc, set_death_signal = ctypes.CDLL(None), 1
    return lambda: libc.prctl(set_death_signal, signal.SIGTERM)
