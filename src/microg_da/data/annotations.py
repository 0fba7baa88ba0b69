"""Tables of annotations and detections: one reader per file format, one writer, every value checked.

Files are CSV, plain or gzipped, in UTF-8 with or without a byte order mark, with LF or CRLF line ends, with a
header or without one. Without a header the columns stand in AVA's order; with one they stand in any order
and MicroG-4M's names (``xmin``, ``action`` …) are understood. A value that cannot be right raises
:class:`~microg_da.errors.InputError` with the file and the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from microg_da.data.score_kinds import ScoreKind, check_kind, declare_scores, declared_scores
from microg_da.data.table_checks import BOX as BOX
from microg_da.data.table_checks import TEXT, Place, check_boxes, check_values, reject
from microg_da.errors import InputError, nearest
from microg_da.files import replacing
from microg_da.taxonomy import Taxonomy

SOURCE_VIDEO = "source_video"
"""The column of annotations that names the source video of a clip, where its name does not tell."""
UP = "up"
"""The column with a person's true up, in degrees clockwise from the top of the picture. For evaluation only."""
NAMED_COLUMNS = [SOURCE_VIDEO, UP]
"""Columns that annotations may have further, if a header names them."""

Duplicates = Literal["keep", "drop", "error"]

KEYFRAME = ["video_id", "frame_stamp"]
ANNOTATION_COLUMNS = [*KEYFRAME, *BOX, "action_id", "person_id"]
DETECTION_COLUMNS = [*KEYFRAME, *BOX, "action_id", "score"]
ACTION_COLUMNS = ["video_id", "domain", "person_id", "action_id"]
PERSON_BOX_COLUMNS = ["video_id", "frame_stamp", "person_id", *BOX]

DOMAINS = {"r": "real", "m": "simulated"}

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
# Pandas before 3.1 reads numbers to the last digit but one unless told otherwise; later ones warn of being told.
_EXACT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)


def read_annotations(
    path: str | Path,
    *,
    taxonomy: Taxonomy | None = None,
    duplicates: Duplicates = "keep",
    check_boxes: bool = True,
) -> pd.DataFrame:
    r"""Read labelled people: AVA's CSV (7 or 8 columns) or MicroG-4M's ``ava_format_with_header.csv``.

    Example:
        >>> from pathlib import Path
        >>> from microg_da import read_annotations
        >>> _ = Path("truth.csv").write_text("film_1,46,0.1,0.1,0.5,0.9,12,0\n")
        >>> read_annotations("truth.csv").action_id.tolist()
        [12]

    Args:
        path: the file.
        taxonomy: if given, every action id must be one of its ids; else an id in 1…1000.
        duplicates: what to do with rows that say the same twice (MicroG-4M has 21 of them).
        check_boxes: False to let impossible boxes through, for somebody who wants to count them.

    Returns:
        A table with :data:`ANNOTATION_COLUMNS`, rows in the order of the file; boxes in [0, 1]. ``frame_stamp``
        is int64 if every one of the file is a whole number, else float64. Where the file names no persons,
        the distinct boxes of each keyframe are numbered from 0. Where a header names the column ``source_video``
        or ``up`` (degrees), the table has it too.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = _read(path, required=ANNOTATION_COLUMNS[:-1], optional="person_id", by_header=(*NAMED_COLUMNS,))
    if "person_id" not in table:
        table["person_id"] = _number_boxes(table)
    columns = [*ANNOTATION_COLUMNS, *(name for name in NAMED_COLUMNS if name in table)]
    table = _finish(table[columns], where, taxonomy, duplicates, check_boxes)
    table.attrs["path"] = str(path)
    return table


def read_detections(
    path: str | Path, *, taxonomy: Taxonomy | None = None, duplicates: Duplicates = "keep"
) -> pd.DataFrame:
    r"""Read detections: AVA's CSV with a score in the eighth column; where it is missing, the score is 1.

    Scores may be logits or probabilities; any finite number is accepted. A file that :func:`write_detections` made
    may say which they are.

    Example:
        >>> from pathlib import Path
        >>> from microg_da import read_detections
        >>> _ = Path("found.csv").write_text("film_1,46,0.1,0.1,0.5,0.9,12,0.75\n")
        >>> read_detections("found.csv").score.tolist()
        [0.75]

    Args:
        path: the file.
        taxonomy: if given, every action id must be one of its ids; else an id in 1…1000.
        duplicates: what to do with a second score for the same box and action.

    Returns:
        A table with :data:`DETECTION_COLUMNS`, rows in the order of the file. ``table.attrs["scores"]`` is
        ``"logit"`` or ``"probability"`` where the file says so, and ``table.attrs["path"]`` names the file.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = _read(path, required=DETECTION_COLUMNS[:-1], optional="score")
    if "score" not in table:
        table["score"] = 1.0
    table = _finish(table[DETECTION_COLUMNS], where, taxonomy, duplicates)
    table.attrs["path"] = str(path)
    if kind := declared_scores(path):
        table.attrs["scores"] = kind
    return table


def read_actions(path: str | Path, *, duplicates: Duplicates = "keep") -> pd.DataFrame:
    """Read MicroG-4M's ``actions.csv``: who does what in which clip, and whether the clip is real or a film's.

    Returns:
        A table with :data:`ACTION_COLUMNS`; ``domain`` is ``"real"`` or ``"simulated"`` (``r`` and ``m`` in
        the file).
    """
    path = Path(path)
    table, where = _read(path, required=ACTION_COLUMNS)
    known = table["domain"].isin(DOMAINS)
    reject(~known, where, "movie_or_real is neither 'r' nor 'm'")
    table["domain"] = table["domain"].map(DOMAINS)
    return _finish(table[ACTION_COLUMNS], where, None, duplicates)


def read_person_boxes(path: str | Path) -> pd.DataFrame:
    """Read MicroG-4M's ``bounding_boxes.csv``: boxes in pixels for every frame in which a person was found.

    Returns:
        A table with :data:`PERSON_BOX_COLUMNS`; ``frame_stamp`` is the file's ``frame_id``.
    """
    path = Path(path)
    table, where = _read(path, required=PERSON_BOX_COLUMNS)
    check_boxes(table, where, largest=None)
    return _finish(table[PERSON_BOX_COLUMNS], where, None, "keep")


def read_tubes(path: str | Path, *, scored: bool) -> pd.DataFrame:
    """Read labelled people or detections frame by frame, with ``person_id`` where the file names people.

    Args:
        path: the file; one of detections with ``person_id`` has a header.
        scored: whether it is of detections.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = _read(path, DETECTION_COLUMNS if scored else ANNOTATION_COLUMNS[:-1], optional="person_id")
    table = _finish(table, where, None, "keep")
    table.attrs["path"] = str(path)
    if scored and (kind := declared_scores(path)):
        table.attrs["scores"] = kind
    return table


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Read boxes of people without actions: ``video_id, timestamp, x1, y1, x2, y2`` and perhaps ``person_id``.

    AVA's annotations, which have actions, are read too, each box once.

    Returns:
        ``video_id, frame_stamp, x1, y1, x2, y2``, boxes in [0, 1], and ``person_id`` where the file has it.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    columns = [*KEYFRAME, *BOX]
    _, first = next(_rows(_bytes(path), path), (0, columns))
    if len(first) > len(columns) + 1 or {"action", "action_id"}.intersection(name.strip().lower() for name in first):
        return read_annotations(path)[[*columns, "person_id"]].drop_duplicates(ignore_index=True)
    table, where = _read(path, required=columns, optional="person_id")
    check_boxes(table, where, largest=1.0)
    return _finish(table, where, None, "keep")


def read_keyframes(path: str | Path) -> pd.DataFrame:
    """Read a list of keyframes, such as AVA's ``ava_*_excluded_timestamps*.csv``: ``video_id, frame_stamp``."""
    path = Path(path)
    table, where = _read(path, required=KEYFRAME)
    return _finish(table, where, None, "keep")


def write_annotations(table: pd.DataFrame, path: str | Path, *, header: bool = True) -> Path:
    """Write annotations so that :func:`read_annotations` gives the same table back; ``.gz`` compresses.

    A file without a header has no column ``source_video`` or ``up``.

    Raises:
        InputError: if the table could not be read back, or the file cannot be written.
    """
    named = [name for name in NAMED_COLUMNS if header and name in table]
    return _write(table, path, [*ANNOTATION_COLUMNS, *named], header)


def write_detections(
    table: pd.DataFrame, path: str | Path, *, header: bool = True, scores: ScoreKind | None = None
) -> Path:
    """Write detections so that :func:`read_detections` gives the same table back; ``.gz`` compresses.

    AVA's own evaluator expects ``header=False``.

    Args:
        table: with :data:`DETECTION_COLUMNS`.
        path: the file.
        header: whether the first line names the columns.
        scores: what the scores are, kept in ``<path>.json``; None for what ``table.attrs["scores"]`` says, if it does.

    Raises:
        InputError: if the table could not be read back, or a file cannot be written.
    """
    kind = scores or table.attrs.get("scores")
    if kind:
        check_kind(kind)
    _write(table, path, DETECTION_COLUMNS, header)
    declare_scores(path, kind)
    return Path(path)


def source_videos(video_ids: pd.Series) -> pd.Series:
    """The source video of each clip: its ``video_id`` up to the last underscore (all of it without one)."""
    return video_ids.str.replace(r"_[^_]*$", "", regex=True)


def _read(
    path: Path, required: list[str], optional: str | None = None, by_header: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, Place]:
    """The columns as text and float64, still unchecked, and a way to find the line of a row.

    A file without a header may have the ``optional`` column as its last; one with a header also those ``by_header``.
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
        raise InputError(f"{path}: has NUL bytes; a CSV file in UTF-8 is expected")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: is not UTF-8") from error
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
    """Whether a first row holds values, not column names: some field that should be a number is one."""
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
    """The names that a column could have: of columns that the table may have and does not have yet."""
    free = [name for name in valid if name not in present]
    return [*free, *(alias for alias, name in _ALIASES.items() if name in free)]


def _positions(path: Path, row: list[str], required: list[str], optional: str | None) -> list[str]:
    columns = [*required, *([optional] if optional else [])]
    if not len(required) <= len(row) <= len(columns):
        lengths = " or ".join(str(n) for n in range(len(required), len(columns) + 1))
        raise InputError(f"{path}: rows have {len(row)} columns, expected {lengths}: {', '.join(columns)}")
    return columns[: len(row)]


def _structure_error(path: Path, data: bytes, columns: list[str], header: bool) -> InputError | None:
    """Find the first row whose length or numbers are wrong, once it is known that there is one."""
    for line, row in list(_rows(data, path))[int(header) :]:
        if len(row) != len(columns):
            return InputError(f"{path}, line {line}: {len(row)} columns, expected {len(columns)}: {', '.join(columns)}")
        for name, text in zip(columns, row, strict=True):
            if name not in TEXT and not _is_number(text):
                return InputError(f"{path}, line {line}: {name} is {text!r}, expected a finite number")
    return None


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=str if name in TEXT else np.float64) for name in columns})


def _finish(
    table: pd.DataFrame,
    where: Place,
    taxonomy: Taxonomy | None,
    duplicates: Duplicates,
    boxes: bool = True,
) -> pd.DataFrame:
    """Check every value and give each column its type."""
    table = table.copy()
    check_values(table, where, taxonomy)
    if boxes and "action_id" in table and "x1" in table:
        check_boxes(table, where, largest=1.0)
    for name in {"action_id", "person_id"}.intersection(table.columns):
        table[name] = table[name].astype(np.int64)
    if "frame_stamp" in table and (table["frame_stamp"] % 1 == 0).all():
        table["frame_stamp"] = table["frame_stamp"].astype(np.int64)
    if duplicates != "keep":
        repeated = table.duplicated(subset=[name for name in table.columns if name != "score"])
        if duplicates == "error":
            reject(repeated, where, "says the same as an earlier row")
        table = table[~repeated].reset_index(drop=True)
    return table


def _number_boxes(table: pd.DataFrame) -> np.ndarray:
    keyframe = table.groupby(KEYFRAME, sort=False).ngroup()
    person = table.groupby([*KEYFRAME, *BOX], sort=False).ngroup()
    return (person.groupby(keyframe).rank("dense") - 1).to_numpy(np.int64)


def _write(table: pd.DataFrame, path: str | Path, columns: list[str], header: bool) -> Path:
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path}: cannot be written, the table has no column {missing[0]!r}")
    checked = _finish(table[columns], Place(f"table for {path}"), None, "keep")
    compression = {"method": "gzip", "mtime": 0} if Path(path).suffix == ".gz" else None
    with replacing(path) as temporary:
        checked.to_csv(temporary, index=False, header=header, compression=compression, lineterminator="\n")
    return Path(path)
