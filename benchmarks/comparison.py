"""Functions that the comparisons share: choice of rows, finished runs, exit status."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from microg_da.errors import InputError
from microg_da.runs.folder import Run


def chosen_labels(labels: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the labels that match a shell-style pattern, in the order of the labels.

    Raises:
        InputError: A pattern matches no label.
    """
    labels, patterns = list(labels), list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(labels, pattern):
            raise InputError(f"--rows: the pattern {pattern!r} matches no row. Rows: {', '.join(labels)}.")
    return [label for label in labels if any(fnmatch.fnmatchcase(label, pattern) for pattern in patterns)]


def finished(folder: Path) -> bool:
    """Return whether a folder contains a finished run."""
    try:
        return Run(folder).record.status == "finished"
    except InputError:
        return False


def exit_status(main: Callable[[], int], program: str) -> int:
    """Run a program. Return 2 after an input error, and the status of the command after a failed command."""
    try:
        return main()
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # the command has printed the error
        return error.returncode
