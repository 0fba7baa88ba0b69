"""Requirements for functions of other packages that open or split data."""

from __future__ import annotations

import inspect
from typing import Any, get_origin, get_type_hints

from microg_da.data.dataset_files import DatasetFiles
from microg_da.errors import InputError
from microg_da.types import ClipSource


def reads_files(function: object) -> bool:
    """Return whether a function has the annotation ``-> DatasetFiles``, and so finds the tables of a folder."""
    made = _returned(function)
    return isinstance(made, type) and issubclass(made, DatasetFiles)


def check_opener(what: str, found: object) -> None:
    """Check that an object from outside the package is annotated as an opener of data.

    A configuration may name any function. Only a function with this annotation is called.

    Args:
        what: the start of the error message, e.g. ``"kind of data 'package.module:function'"``.
        found: the object.

    Raises:
        InputError: if it is not annotated to return :class:`~microg_da.data.dataset_files.DatasetFiles` or a
            :class:`~microg_da.types.ClipSource`.
    """
    if not (reads_files(found) or _is_clip_source(_returned(found))):
        raise InputError(
            f"{what}: expected a function that is annotated to return DatasetFiles or ClipSource[Clip], found "
            f"{found!r}."
        )


def check_split(what: str, found: object) -> None:
    """Check that an object from outside the package can be called as a split scheme.

    Args:
        what: the start of the error message, e.g. ``"split scheme 'package.module:function'"``.
        found: the object.

    Raises:
        InputError: if it does not take the arguments of a scheme.
    """
    check_call(what, found, clips=None, annotations=None, seed=0, folds=5, fold=None)


def check_call(what: str, function: Any, *arguments: object, **named: object) -> None:
    """Check that a function takes some arguments.

    Raises:
        InputError: with the argument that is missing or not accepted.
    """
    try:
        inspect.signature(function).bind(*arguments, **named)
    except (TypeError, ValueError) as error:
        given = ", ".join([*("a path" for _ in arguments[:1]), *("options" for _ in arguments[1:]), *named])
        raise InputError(f"{what}: {error}. It is called with {given}.") from error


def _returned(function: object) -> object:
    if isinstance(function, type):
        return function
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # an annotation that names what is not imported, or no function
        return None


def _is_clip_source(made: object) -> bool:
    if made is ClipSource or get_origin(made) is ClipSource:
        return True
    parts = [name for name in vars(ClipSource) if not name.startswith("_")]
    return isinstance(made, type) and all(hasattr(made, name) for name in parts)
