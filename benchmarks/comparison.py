"""Parts that the programs share which compare rows: choice of rows, finished runs, the exit status."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from microg_da.errors import InputError
from microg_da.runs.folder import Run


def chosen_labels(labels: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The labels that a shell-style pattern matches, in their own order.

    Raises:
        InputError: for a pattern that matches none.
    """
    labels, patterns = list(labels), list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(labels, pattern):
            raise InputError(f"--rows {pattern!r}: no such row. Rows: {', '.join(labels)}.")
    return [label for label in labels if any(fnmatch.fnmatchcase(label, pattern) for pattern in patterns)]


def finished(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    try:
        return Run(folder).record.status == "finished"
    except InputError:
        return False


def exit_status(main: Callable[[], int], program: str) -> int:
    """Run a program; a wrong request is one line and status 2, and a command that failed gives its own status."""
    try:
        return main()
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # the command has said what is wrong
        return error.returncode
