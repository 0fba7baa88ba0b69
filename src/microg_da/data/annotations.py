"""Tables of annotations and detections: one reader per file format, one writer, every value checked.

Files are CSV, plain or gzipped, in UTF-8 with or without a byte order mark, with LF or CRLF line ends, with a
header or without one. Without a header the columns are in AVA's order. With a header they are in any order, and
MicroG-4M's names (``xmin``, ``action`` …) are valid. An invalid value raises
:class:`~microg_da.errors.InputError` with the file and the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from microg_da.data.csv_tables import first_row, read_table
from microg_da.data.score_kinds import ScoreKind, check_kind, declare_scores, declared_scores
from microg_da.data.table_checks import BOX as BOX
from microg_da.data.table_checks import Place, check_boxes, check_values, reject
from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.taxonomy import Taxonomy

SOURCE_VIDEO = "source_video"
"""The column with the source video of a clip, if the name of the clip does not contain it."""
UP = "up"
"""The column with a person's true up, in degrees clockwise from the top of the picture. For evaluation only."""
NAMED_COLUMNS = [SOURCE_VIDEO, UP]
"""Optional columns of annotations with a header."""

Duplicates = Literal["keep", "drop", "error"]

KEYFRAME = ["video_id", "frame_stamp"]
ANNOTATION_COLUMNS = [*KEYFRAME, *BOX, "action_id", "person_id"]
DETECTION_COLUMNS = [*KEYFRAME, *BOX, "action_id", "score"]
ACTION_COLUMNS = ["video_id", "domain", "person_id", "action_id"]
PERSON_BOX_COLUMNS = ["video_id", "frame_stamp", "person_id", *BOX]

DOMAINS = {"r": "real", "m": "simulated"}


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
        duplicates: treatment of repeated rows (MicroG-4M has 21).
        check_boxes: False to accept invalid boxes, e.g. to count them.

    Returns:
        A table with :data:`ANNOTATION_COLUMNS`, rows in the order of the file; boxes in [0, 1]. ``frame_stamp``
        is int64 if all values in the file are whole numbers, else float64. If the file has no person ids, the
        distinct boxes of each keyframe are numbered from 0. The columns ``source_video`` and ``up`` (degrees) are
        present if the header names them.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = read_table(path, required=ANNOTATION_COLUMNS[:-1], optional="person_id", by_header=(*NAMED_COLUMNS,))
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
        duplicates: treatment of a second score for the same box and action.

    Returns:
        A table with :data:`DETECTION_COLUMNS`, rows in the order of the file. ``table.attrs["scores"]`` is
        ``"logit"`` or ``"probability"`` where the file says so, and ``table.attrs["path"]`` names the file.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = read_table(path, required=DETECTION_COLUMNS[:-1], optional="score")
    if "score" not in table:
        table["score"] = 1.0
    table = _finish(table[DETECTION_COLUMNS], where, taxonomy, duplicates)
    table.attrs["path"] = str(path)
    if kind := declared_scores(path):
        table.attrs["scores"] = kind
    return table


def read_actions(path: str | Path, *, duplicates: Duplicates = "keep") -> pd.DataFrame:
    """Read MicroG-4M's ``actions.csv``: the actions of people in clips, and the footage of each clip.

    Returns:
        A table with :data:`ACTION_COLUMNS`; ``domain`` is ``"real"`` or ``"simulated"`` (``r`` and ``m`` in
        the file).
    """
    path = Path(path)
    table, where = read_table(path, required=ACTION_COLUMNS)
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
    table, where = read_table(path, required=PERSON_BOX_COLUMNS)
    check_boxes(table, where, largest=None)
    return _finish(table[PERSON_BOX_COLUMNS], where, None, "keep")


def read_tubes(path: str | Path, *, scored: bool) -> pd.DataFrame:
    """Read labelled people or detections of single frames, with ``person_id`` if the file has it.

    Args:
        path: the file; one of detections with ``person_id`` has a header.
        scored: whether the file contains detections.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    table, where = read_table(path, DETECTION_COLUMNS if scored else ANNOTATION_COLUMNS[:-1], optional="person_id")
    table = _finish(table, where, None, "keep")
    table.attrs["path"] = str(path)
    if scored and (kind := declared_scores(path)):
        table.attrs["scores"] = kind
    return table


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Read boxes of people without actions: ``video_id, timestamp, x1, y1, x2, y2`` and optionally ``person_id``.

    Annotations in AVA's format are valid as well; each box is read once.

    Returns:
        ``video_id, frame_stamp, x1, y1, x2, y2``, boxes in [0, 1], and ``person_id`` where the file has it.

    Raises:
        InputError: with file and line, for anything that is not such a table.
    """
    path = Path(path)
    columns = [*KEYFRAME, *BOX]
    first = first_row(path)
    if len(first) > len(columns) + 1 or {"action", "action_id"}.intersection(name.strip().lower() for name in first):
        return read_annotations(path)[[*columns, "person_id"]].drop_duplicates(ignore_index=True)
    table, where = read_table(path, required=columns, optional="person_id")
    check_boxes(table, where, largest=1.0)
    return _finish(table, where, None, "keep")


def read_keyframes(path: str | Path) -> pd.DataFrame:
    """Read a list of keyframes, such as AVA's ``ava_*_excluded_timestamps*.csv``: ``video_id, frame_stamp``."""
    path = Path(path)
    table, where = read_table(path, required=KEYFRAME)
    return _finish(table, where, None, "keep")


def write_annotations(table: pd.DataFrame, path: str | Path, *, header: bool = True) -> Path:
    """Write annotations for :func:`read_annotations`, which returns the same table; ``.gz`` compresses.

    A file without a header has no column ``source_video`` or ``up``.

    Raises:
        InputError: if the table could not be read back, or the file cannot be written.
    """
    named = [name for name in NAMED_COLUMNS if header and name in table]
    return _write(table, path, [*ANNOTATION_COLUMNS, *named], header)


def write_detections(
    table: pd.DataFrame, path: str | Path, *, header: bool = True, scores: ScoreKind | None = None
) -> Path:
    """Write detections for :func:`read_detections`, which returns the same table; ``.gz`` compresses.

    AVA's own evaluator expects ``header=False``.

    Args:
        table: with :data:`DETECTION_COLUMNS`.
        path: the file.
        header: whether the first line names the columns.
        scores: the kind of the scores, stored in ``<path>.json``; None for ``table.attrs["scores"]``, if set.

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
            reject(repeated, where, "repeats an earlier row")
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
