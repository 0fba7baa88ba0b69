"""The exception for errors that a user can correct, and messages that several modules share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An error in the user's input: a file, a key, a name or a checkpoint.

    Example:
        >>> from microg_da import InputError, create_detector
        >>> try:
        ...     create_detector("x3d_m")
        ... except InputError as error:
        ...     print(str(error).partition(" Valid")[0])
        model.name: unknown model 'x3d_m'. Did you mean 'x3d_s_13x6'?

    The message names the file, line or key, what was expected and what to do. The command line prints it without a
    traceback and exits with status 2. In Python it is a ``ValueError``.
    """

    def __init__(self, message: str = "") -> None:
        # An error from a data loading process has the traceback in its message.
        if message.startswith("Caught InputError in "):
            message = message.rstrip().rpartition("InputError: ")[2]
        super().__init__(message)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most similar to ``name``, or None if none is close."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def check_count(key: str, count: int, least: int = 1) -> None:
    """Refuse a number that is too small.

    Args:
        key: begins the message, e.g. ``adaptation.args.rolls``.
        count: the number.
        least: the smallest valid number.

    Raises:
        InputError: if ``count`` is less than ``least``.
    """
    if count < least:
        raise InputError(f"{key}={count} is invalid: expected a whole number of at least {least}.")


def unknown_name(kind: str, name: str, valid: Iterable[str], where: str = "") -> InputError:
    """Return the error for an unknown name, with the nearest match and all valid names.

    Args:
        kind: the kind of name, e.g. ``"adaptation"``.
        name: the unknown name.
        valid: all valid names.
        where: the file or key that contains the name, if known.
    """
    names = sorted(valid)
    guess = nearest(name, names)
    place = f"{where}: " if where else ""
    hint = f" Did you mean {guess!r}?" if guess else ""
    return InputError(f"{place}unknown {kind} {name!r}.{hint} Valid: {', '.join(names) or '(none)'}.")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, which may be long; the type of the exception if it is empty."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
