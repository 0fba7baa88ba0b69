"""Reading of the JSON objects of a run, field by field with type checks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from microg_da.errors import InputError

T = TypeVar("T")

FORMAT = 2
"""Number of the format of ``run.json`` and ``results.json``. Files of the first format have no number."""


def read_text(path: Path) -> str | None:
    """Read the text of a file; None if the file does not exist.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}.") from error


def read_json(path: Path) -> object:
    """Read the value in a JSON file; None if the file does not exist.

    Raises:
        InputError: if the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:  # numbers with thousands of digits, or very deep nesting
        raise InputError(f"{path}: not JSON ({error}).") from error
    return value


class Fields:
    """The fields of one JSON object. Every method raises :class:`InputError` with the field for an invalid value.

    Args:
        value: the value that should be a JSON object.
        where: the file and the position in it, for error messages.
        remedy: the remedy for a damaged object, for error messages.
    """

    def __init__(self, value: object, where: str, remedy: str) -> None:
        self.where = where
        self.remedy = remedy
        if not isinstance(value, dict):
            raise self.error(f"expected one JSON object, found {type(value).__name__}")
        self.values: Mapping[str, object] = value

    def error(self, problem: str) -> InputError:
        """Return an error about this object."""
        return InputError(f"{self.where}: {problem}. {self.remedy}")

    def format(self) -> int:
        """Return the number of the format of the file.

        Raises:
            InputError: for a format of a newer version.
        """
        number = self.values.get("format", 1)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise self.error(f"'format' is {number!r}, not a whole number above 0")
        if number > FORMAT:
            raise InputError(
                f"{self.where}: the file has format {number}, which a newer version of microg_da wrote; this version "
                f"reads formats up to {FORMAT}. Update microg_da to read the run."
            )
        return number

    def has(self, key: str) -> bool:
        """Return whether the field exists and is not null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        """Return the text of a field."""
        return self._take(key, str, "a text")

    def integer(self, key: str) -> int:
        """Return the whole number of a field."""
        return self._take(key, int, "a whole number")

    def flag(self, key: str) -> bool:
        """Return the boolean of a field."""
        return self._take(key, bool, "true or false")

    def number(self, key: str) -> float:
        """Return the number of a field; NaN for null, because JSON has no NaN."""
        value = self._get(key)
        if value is None:
            return math.nan
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.error(f"{key!r} is {value!r:.60}, not a number")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list of texts of a field."""
        return self._all(key, str, "texts")

    def integers(self, key: str) -> tuple[int, ...]:
        """Return the list of whole numbers of a field."""
        return self._all(key, int, "whole numbers")

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the list of numbers of a field."""
        return tuple(map(float, self._all(key, (int, float), "numbers")))

    def box(self, key: str) -> tuple[float, float, float, float]:
        """Return the four numbers of a field."""
        values = self.numbers(key)
        if len(values) != 4:
            raise self.error(f"{key!r} has {len(values)} numbers, expected 4")
        return values[0], values[1], values[2], values[3]

    def items(self, key: str) -> list[object]:
        """Return the list of a field."""
        return self._take(key, list, "a list")

    def optional(self, read: Callable[[str], T], key: str) -> T | None:
        """Return ``read(key)`` for a method ``read`` of this object; None if the field is missing or null."""
        return read(key) if self.has(key) else None

    def fields(self, key: str) -> Fields:
        """Return the object in a field."""
        return Fields(self._get(key), f"{self.where}, {key}", self.remedy)

    def objects(self, key: str) -> Iterator[Fields]:
        """Yield the objects of the list in a field."""
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
    """Yield the objects of a JSON list; none if the file does not exist.

    Args:
        path: the file.
        holds: the content of each object, for error messages.
        remedy: the remedy for a damaged file, for error messages.

    Raises:
        InputError: if the file does not contain a list.
    """
    value = read_json(path)
    if not isinstance(value, (list, type(None))):
        raise InputError(f"{path}: expected a list of objects {holds}. {remedy}")
    for number, one in enumerate(value or (), start=1):
        yield Fields(one, f"{path}, example {number}", remedy)
