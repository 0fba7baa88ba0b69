"""JSON objects that runs have written, read back field by field with the type that each must have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from microg_da.errors import InputError

T = TypeVar("T")

FORMAT = 2
"""Of ``run.json`` and ``results.json``. Files of the first format have no number."""


def read_text(path: Path) -> str | None:
    """The text of a file; None if there is no such file.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}.") from error


def read_json(path: Path) -> object:
    """Contents of a JSON file; None if there is no such file.

    Raises:
        InputError: if it cannot be read, or is not JSON.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets nested as deep
        raise InputError(f"{path}: not JSON ({error}).") from error
    return value


class Fields:
    """The fields of one JSON object. Every method raises :class:`InputError`, naming the field, for a wrong value.

    Args:
        value: what should be a JSON object.
        where: the file, and the place in it, for error messages.
        remedy: what the user can do about a damaged object.
    """

    def __init__(self, value: object, where: str, remedy: str) -> None:
        self.where = where
        self.remedy = remedy
        if not isinstance(value, dict):
            raise self.error(f"expected one JSON object, found {type(value).__name__}")
        self.values: Mapping[str, object] = value

    def error(self, problem: str) -> InputError:
        """An error about this object."""
        return InputError(f"{self.where}: {problem}. {self.remedy}")

    def format(self) -> int:
        """The number of the format that the file is written in.

        Raises:
            InputError: for a format of a newer version.
        """
        number = self.values.get("format", 1)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise self.error(f"'format' is {number!r}, not a whole number above 0")
        if number > FORMAT:
            raise InputError(
                f"{self.where}: written in format {number} by a newer version of microg_da; this version reads formats "
                f"up to {FORMAT}. Install that version to read the run."
            )
        return number

    def has(self, key: str) -> bool:
        """Whether there is a value that is not null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        """A text."""
        return self._take(key, str, "a text")

    def integer(self, key: str) -> int:
        """A whole number."""
        return self._take(key, int, "a whole number")

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._take(key, bool, "true or false")

    def number(self, key: str) -> float:
        """A number; NaN for null, since JSON has no NaN."""
        value = self._get(key)
        if value is None:
            return math.nan
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.error(f"{key!r} is {value!r:.60}, not a number")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        return self._all(key, str, "texts")

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return self._all(key, int, "whole numbers")

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers."""
        return tuple(map(float, self._all(key, (int, float), "numbers")))

    def box(self, key: str) -> tuple[float, float, float, float]:
        """Four numbers."""
        values = self.numbers(key)
        if len(values) != 4:
            raise self.error(f"{key!r} has {len(values)} numbers instead of 4")
        return values[0], values[1], values[2], values[3]

    def items(self, key: str) -> list[object]:
        """A list."""
        return self._take(key, list, "a list")

    def optional(self, read: Callable[[str], T], key: str) -> T | None:
        """The return value of ``read``, a method of this object; None where the field is missing or null."""
        return read(key) if self.has(key) else None

    def fields(self, key: str) -> Fields:
        """An object inside this one."""
        return Fields(self._get(key), f"{self.where}, {key}", self.remedy)

    def objects(self, key: str) -> Iterator[Fields]:
        """The objects of a list."""
        for place, value in enumerate(self.items(key), start=1):
            yield Fields(value, f"{self.where}, {key} {place}", self.remedy)

    def _all(self, key: str, kind: type[T] | tuple[type[T], ...], title: str) -> tuple[T, ...]:
        found: list[T] = []
        for value in self.items(key):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise self.error(f"{key!r} must be a list of {title}")
            found.append(value)
        return tuple(found)

    def _get(self, key: str) -> object:
        if key not in self.values:
            raise self.error(f"the key {key!r} is missing")
        return self.values[key]

    def _take(self, key: str, kind: type[T], title: str) -> T:
        value = self._get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{key!r} is {value!r:.60}, not {title}")
        return value


def read_objects(path: Path, holds: str, remedy: str) -> Iterator[Fields]:
    """The objects of a JSON list; none if there is no such file.

    Args:
        path: the file.
        holds: what each object holds, for error messages.
        remedy: what the user can do about a damaged file.

    Raises:
        InputError: if it is not a list.
    """
    value = read_json(path)
    if not isinstance(value, (list, type(None))):
        raise InputError(f"{path}: expected a list of objects {holds}. {remedy}")
    for number, one in enumerate(value or (), start=1):
        yield Fields(one, f"{path}, example {number}", remedy)
