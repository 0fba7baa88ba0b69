"""The exception for errors that a user can correct, and messages that have the same wording everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: a file, a key, a name, a checkpoint.

    Example:
        >>> from microg_da import InputError, create_detector
        >>> try:
        ...     create_detector("x3d_m")
        ... except InputError as error:
        ...     print(str(error).partition(" Valid")[0])
        model.name: unknown model 'x3d_m'. Did you mean 'x3d_s_13x6'?

    The message names the file, line or key, says what was expected and what to do. The command line prints
    it without a traceback and exits with status 2; in Python it is an ordinary ``ValueError``.
    """

    def __init__(self, message: str = "") -> None:
        # A process that loads data hands its errors on with the traceback as part of the message.
        if message.startswith("Caught InputError in "):
            message = message.rstrip().rpartition("InputError: ")[2]
        super().__init__(message)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like ``name``, or None if none is close."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, valid: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is not in a list: it shows the nearest match and all valid names.

    Args:
        kind: what the name should name, e.g. ``"adaptation"``.
        name: the name as given.
        valid: every name that would have been right.
        where: the file or key in which the name stood, if known.
    """
    names = sorted(valid)
    guess = nearest(name, names)
    place = f"{where}: " if where else ""
    hint = f" Did you mean {guess!r}?" if guess else ""
    return InputError(f"{place}unknown {kind} {name!r}.{hint} Valid: {', '.join(names) or '(none)'}.")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; libraries append pages to it. Its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
