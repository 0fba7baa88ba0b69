"""Commands in processes of their own, forked from one that has imported what most commands import.

A new interpreter spends seconds of processor time on importing Lightning. A test that asks what a command does, and not
how it starts, does not need one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOADED = ["microg_da.training.runner", "microg_da.reporting.report", "optuna", "av"]


@dataclass
class Finished:
    """What a command left."""

    returncode: int | None
    stdout: str
    stderr: str


def fork(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """Start a function in a forked process; it reads its arguments from a pipe, as if in a new interpreter."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=args)
    process.start()
    return process


class Command:
    """A command of microg_da that runs.

    Args:
        words: its arguments.
        cwd: where it runs.
        environment: replaces that of the tests.
    """

    def __init__(self, *words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self._folder.name) / name for name in ("out", "err"))
        arguments = [str(word) for word in words]
        self._process = fork(
            _run, arguments, str(cwd or Path.cwd()), dict(environment or os.environ), self.out, self.err
        )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        self._process.kill()
        self._process.join()

    def finish(self, timeout: float = 280) -> Finished:
        """Wait for its end.

        Raises:
            TimeoutError: if it does not end in time; it is killed.
        """
        self._process.join(timeout)
        if self.running():
            self.kill()
            raise TimeoutError(self.err.read_text())
        return Finished(self._process.exitcode, self.out.read_text(), self.err.read_text())


def run(*words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; arguments as those of :class:`Command`."""
    return Command(*words, cwd=cwd, environment=environment).finish()


def call(words: list[str], folder: str, environment: Mapping[str, str]) -> int:
    """In the process of a command: run it there, with its environment."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from microg_da.cli import main

    status = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _run(words: list[str], folder: str, environment: Mapping[str, str], out: Path, err: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.exit(call(words, folder, environment))
