"""CSV files as tables of text and numbers: plain or gzipped, with or without a header, every error with its line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microg_da.data.table_checks import TEXT, Place
from microg_da.errors import InputError, nearest

_ALIASES = {
    "action": "action_id",
    "frame": "frame_stamp",
    "frame_id": "frame_stamp",
    "movie_or_real": "domain",
    "timestamp": "frame_stamp",
    "video": "video_id",
    "xmin": "x1",
    "xmax": "x2",
    "ymin": "y1",
    "ymax": "y2",
}
# Pandas before 3.1 needs this option to read numbers exactly; later versions warn about the option.
_EXACT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)


def read_table(
    path: Path, required: list[str], optional: str | None = None, by_header: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, Place]:
    """Return unchecked columns as text and float64, and a function from rows to lines.

    Args:
        path: the file.
        required: the columns, in the order of files without a header.
        optional: a column that a file without a header may have at the end.
        by_header: optional columns of files with a header.

    Raises:
        InputError: with file and line, if the file is not a CSV file with these columns.
    """
    data = _bytes(path)
    rows = _rows(data, path)
    first = next(rows, None)
    if first is None:
        if data.strip():
            raise InputError(f"{path}: cannot be read as CSV")
        return _empty([*required, *([optional] if optional else [])]), Place(str(path))
    header = not _is_data(first[1], required)
    columns = (
        _header(path, first, [*required], [*([optional] if optional else []), *by_header])
        if header
        else _positions(path, first[1], required, optional)
    )
    try:
        table = pd.read_csv(
            io.BytesIO(data),
            header=None,
            skiprows=first[0] if header else 0,
            dtype={i: str if name in TEXT else np.float64 for i, name in enumerate(columns)},
            na_filter=False,
            encoding="utf-8-sig",
            **_EXACT,
        )
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=range(len(columns)))
    except (ValueError, pd.errors.ParserError, OverflowError) as error:
        raise _structure_error(path, data, columns, header) or InputError(f"{path}: {error}") from error
    if table.empty:
        return _empty(columns), Place(str(path))
    if table.shape[1] != len(columns):
        raise _structure_error(path, data, columns, header) or InputError(f"{path}: rows differ in length")
    table.columns = pd.Index(columns)
    return table, Place(str(path), lambda row: _line(data, path, row + header))


def first_row(path: Path) -> list[str]:
    """Return the first non-blank row as text; empty if there is none.

    Raises:
        InputError: if the file cannot be read.
    """
    return next((row for _, row in _rows(_bytes(path), path)), [])


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if b"\0" in data:
        raise InputError(f"{path}: contains NUL bytes; expected a CSV file in UTF-8")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8") from error
    return data


def _rows(data: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the number of the line on which it ends."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _line(data: bytes, path: Path, row: int) -> int:
    return next((line for i, (line, _) in enumerate(_rows(data, path)) if i == row), 0)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_data(row: list[str], required: list[str]) -> bool:
    """Return whether the first row contains values and not column names: any numeric column is a number."""
    return any(_is_number(text) for name, text in zip(required, row, strict=False) if name not in TEXT)


def _header(path: Path, first: tuple[int, list[str]], required: list[str], optional: list[str]) -> list[str]:
    line, row = first
    names = [name.strip().lower() for name in row]
    columns = [_ALIASES.get(name, name) for name in names]
    valid = [*required, *optional]
    for name, column in zip(names, columns, strict=True):
        if column not in valid:
            guess = nearest(name, _free_names(valid, columns))
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise InputError(f"{path}, line {line}: unexpected column {name!r}.{hint} Expected: {', '.join(valid)}.")
        if columns.count(column) > 1:
            raise InputError(f"{path}, line {line}: column {column!r} appears twice")
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(f"{path}, line {line}: no column {missing[0]!r}. Expected: {', '.join(valid)}.")
    return columns


def _free_names(valid: list[str], present: list[str]) -> list[str]:
    """Return the valid column names that the table does not have yet."""
    free = [name for name in valid if name not in present]
    return [*free, *(alias for alias, name in _ALIASES.items() if name in free)]


def _positions(path: Path, row: list[str], required: list[str], optional: str | None) -> list[str]:
    columns = [*required, *([optional] if optional else [])]
    if not len(required) <= len(row) <= len(columns):
        lengths = " or ".join(str(n) for n in range(len(required), len(columns) + 1))
        raise InputError(f"{path}: rows have {len(row)} columns, expected {lengths}: {', '.join(columns)}")
    return columns[: len(row)]


def _structure_error(path: Path, data: bytes, columns: list[str], header: bool) -> InputError | None:
    """Return the error for the first row with a wrong length or an invalid number."""
    for line, row in list(_rows(data, path))[int(header) :]:
        if len(row) != len(columns):
            return InputError(f"{path}, line {line}: {len(row)} columns, expected {len(columns)}: {', '.join(columns)}")
        for name, text in zip(columns, row, strict=True):
            if name not in TEXT and not _is_number(text):
                return InputError(f"{path}, line {line}: {name} is {text!r}, expected a finite number")
    return None


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=str if name in TEXT else np.float64) for name in columns})
